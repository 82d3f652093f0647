/** The bus: what its topics carry, and what lies at their ends. */

import type { DevRecord, DevTopic } from "@handrail/client";
import { useQuery } from "@tanstack/react-query";
import { RefreshCw } from "lucide-react";
import { useEffect, useRef } from "react";
import { client } from "../live/client.js";
import { Link, to, useAddress } from "../model/router.js";
import { clock } from "../model/time.js";
import { text } from "../text.js";
import { dev } from "../text-dev.js";
import { Json } from "../ui/evidence.js";
import { Failed, Facts, Skeleton } from "../ui/parts.js";

const t = dev.topics;

export function Topics() {
  const list = useQuery({ queryKey: ["dev-topics"], queryFn: () => client.bench.topics() });
  const { query } = useAddress();
  if (list.isPending) return <Skeleton />;
  if (list.isError) return <Failed error={list.error} again={() => void list.refetch()} />;
  const chosen = list.data.items.find((each) => each.topic === query.get("topic"));
  return (
    <div className="stack">
      <p className="dim">{t.hint}</p>
      <div className="dev-topics">
        <div className="table-scroll">
          <table className="table">
            <thead>
              <tr>
                <th scope="col">{t.columns.topic}</th>
                <th scope="col">{t.columns.payload}</th>
                <th scope="col">{t.columns.partitions}</th>
                <th scope="col">{t.columns.records}</th>
              </tr>
            </thead>
            <tbody>
              {list.data.items.map((each) => (
                <tr key={each.topic} data-topic={each.topic} className={each === chosen ? "chosen" : undefined}>
                  <th scope="row">
                    <Link href={to(["dev"], { tab: "topics", topic: each.topic })} aria-current={each === chosen ? "true" : undefined}>
                      {each.topic}
                    </Link>
                    <p className="dim small">{each.why}</p>
                  </th>
                  <td className="nowrap">{each.payload.join(", ")}</td>
                  <td className="number">{each.partitions}</td>
                  <td className="number">{each.records}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
        {chosen ? <Records key={chosen.topic} of={chosen} again={() => void list.refetch()} /> : <p className="dim">{t.choose}</p>}
      </div>
    </div>
  );
}

function Records({ of, again }: { of: DevTopic; again: () => void }) {
  const list = useQuery({ queryKey: ["dev-records", of.topic], queryFn: () => client.bench.records(of.topic), staleTime: 0 });
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  const refresh = () => {
    void list.refetch();
    again();
  };
  return (
    <section className="stack">
      <div className="page-head">
        <h2 ref={heading} tabIndex={-1} className="wrap">{t.newest(of.topic)}</h2>
        <button type="button" className="button icon-only" aria-label={text.common.refresh} title={text.common.refresh} onClick={refresh}>
          <RefreshCw size={16} aria-hidden />
        </button>
      </div>
      <p className="dim small">{t.key(of.key)}</p>
      {list.isPending ? <Skeleton /> : null}
      {list.isError ? <Failed error={list.error} again={() => void list.refetch()} /> : null}
      {list.data?.items.length === 0 ? <p>{t.empty}</p> : null}
      <ul className="rows">
        {list.data?.items.map((each) => (
          <li key={`${each.partition}/${each.offset}`} className="row-item">
            <Record of={each} />
          </li>
        ))}
      </ul>
    </section>
  );
}

function Record({ of }: { of: DevRecord }) {
  const headers = of.headers as Record<string, string>;
  const type = headers.ce_type?.replace(/^dev\.handrail\./, "") ?? "";
  return (
    <details className="dev-record">
      <summary>
        <span className="number">{clock(Date.parse(of.at))}</span> <span className="dim number">{t.place(of.partition, of.offset)}</span> <strong className="wrap">{type}</strong>{" "}
        <span className="wrap">{of.key ?? t.noKey}</span> <span className="dim small">{t.bytes(of.bytes)}</span>
      </summary>
      <h3>{t.headers}</h3>
      <Facts of={headers} />
      <h3>{t.value}</h3>
      <Json value={of.text ?? of.value} label={t.value} />
      {of.truncated ? <p className="dim small">{t.cut}</p> : null}
    </details>
  );
}

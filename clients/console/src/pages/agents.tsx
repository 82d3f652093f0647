/** Who can work, and who is alive. */

import { useQuery } from "@tanstack/react-query";
import { RefreshCw } from "lucide-react";
import type { AgentAction } from "@handrail/client";
import { client } from "../live/client.js";
import { text } from "../text.js";
import { Ago, Empty, Failed, Skeleton } from "../ui/parts.js";
import { usePageTitle } from "../ui/page-title.js";

type Action = AgentAction & { description?: string; effect_class?: string; compensatable?: boolean };

export default function AgentsPage() {
  usePageTitle(text.agents.title);
  const list = useQuery({ queryKey: ["agents"], queryFn: () => client.agents() });
  const items = list.data?.items ?? [];
  return (
    <div className="page">
      <div className="page-head">
        <h1>{text.agents.title}</h1>
        <button type="button" className="button icon-only" aria-label={text.common.refresh} title={text.common.refresh} onClick={() => void list.refetch()}>
          <RefreshCw size={16} aria-hidden />
        </button>
      </div>
      {list.isPending ? <Skeleton /> : list.isError ? <Failed error={list.error} again={() => void list.refetch()} /> : null}
      {list.isSuccess && items.length === 0 ? <Empty title={text.agents.empty} /> : null}
      <ul className="rows">
        {items.map((agent) => (
          <li key={agent.name} className="row-item agent" data-agent={agent.name}>
            <div className="row-top">
              <strong className="wrap">{agent.name}</strong>
              <span className="chip" data-tone={agent.alive ? "good" : "bad"}>
                {agent.alive ? text.agents.alive : text.agents.gone}
              </span>
              <span className="dim small">
                <Ago at={agent.last_seen} />
              </span>
            </div>
            <ul className="agent-actions">
              {(agent.actions as Action[]).map((each) => (
                <li key={`${each.action}${each.version}`}>
                  <code>{each.action}</code> <span className="chip">{text.agents.version(each.version)}</span> <span className="chip">{each.effect_class}</span>{" "}
                  <span className="dim small">
                    {each.compensatable ? text.agents.undo : text.agents.noUndo}
                    {each.description ? ` · ${each.description}` : ""}
                  </span>
                  <Record of={each} />
                </li>
              ))}
            </ul>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** How its attempts ended lately: the share that policies are told, and before there is one the plain count. */
function Record({ of: { attempts_ok = 0, attempts_ended = 0, success_rate = null } }: { of: Action }) {
  if (!attempts_ended) return null;
  return (
    <p className="small agent-record" data-rate={success_rate ?? undefined}>
      {success_rate === null ? (
        <span title={text.agents.rateLater}>{text.agents.record(attempts_ok, attempts_ended)}</span>
      ) : (
        <>
          <strong>{text.agents.rate(success_rate)}</strong> <span className="dim">{text.agents.rateOf(attempts_ended)}</span>
        </>
      )}
    </p>
  );
}

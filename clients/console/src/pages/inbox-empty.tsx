/** Nothing to do: said plainly, with what one may want next. */

import { useQuery } from "@tanstack/react-query";
import { CircleCheckBig } from "lucide-react";
import { labelOf } from "../intervene/closed.js";
import { client } from "../live/client.js";
import { startDemo, useDev } from "../live/dev.js";
import { useNow } from "../live/hooks.js";
import { curl } from "../model/curl.js";
import { type Demo, DOORS } from "../model/demos.js";
import { Link, to } from "../model/router.js";
import { relative } from "../model/time.js";
import { text } from "../text.js";
import { CopyButton, Empty } from "../ui/parts.js";

export function InboxEmpty({ mine }: { mine: boolean }) {
  const last = useQuery({ queryKey: ["resolved", "last"], queryFn: () => client.inbox({ state: "resolved", limit: 1 }), staleTime: 0 });
  const dev = useDev() === true;
  const blueprints = useQuery({ queryKey: ["blueprints"], queryFn: () => client.blueprints(), staleTime: 60_000, enabled: dev });
  const now = useNow(1000);
  if (mine) return <Empty title={text.inbox.emptyMine} />;
  const pause = last.data?.items[0];
  const decision = pause?.decision;
  const known = new Set(blueprints.data?.items.map((each) => each.name));
  const demos = dev ? DOORS.filter((each) => known.has(each.blueprint)) : [];
  return (
    <Empty title={text.inbox.empty} icon={<CircleCheckBig size={40} aria-hidden />}>
      <p>{text.inbox.emptyHint}</p>
      {pause && decision ? (
        <p className="dim last-decision">
          {text.inbox.lastDecision(decision.action_id ? labelOf(pause, decision.action_id) : decision.outcome, decision.actor, relative(decision.decided_at, now))}{" "}
          <Link href={to(["workflows", pause.trace_id], { tab: "audit" })}>{text.inbox.lastDecisionOpen}</Link>
        </p>
      ) : null}
      {demos.length > 0 ? <Demos of={demos} /> : null}
    </Empty>
  );
}

function Demos({ of }: { of: readonly Demo[] }) {
  const command = curl(window.location.origin, "/workflows", { blueprint: of[0]?.blueprint, input: of[0]?.input });
  return (
    <section className="demo" aria-label={text.inbox.demo}>
      <h3>{text.inbox.demo}</h3>
      <p>{text.inbox.demoHint}</p>
      <ul className="demo-doors">
        {of.map((each) => (
          <li key={each.key}>
            <button type="button" className="button" data-demo={each.key} onClick={() => void startDemo(each)}>
              {each.label}
            </button>
            <p className="dim small">{each.hint}</p>
          </li>
        ))}
      </ul>
      <h4>{text.inbox.curl}</h4>
      <div className="code-line">
        <pre tabIndex={0}>{command}</pre>
        <CopyButton value={command} small />
      </div>
      <p className="small">
        <Link href={to(["dev"])}>{text.inbox.demoMore}</Link>
      </p>
    </section>
  );
}

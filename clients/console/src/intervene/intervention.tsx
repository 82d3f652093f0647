/** A pause, in fixed reading order: what broke, what the outside said, what is known, what can be done. */

import type { Pause, WorkflowEvent } from "@handrail/client";
import { useEffect, useRef } from "react";
import { dropDraft } from "../live/drafts.js";
import { useNow } from "../live/hooks.js";
import { attemptsOfPause } from "../model/attempts.js";
import { riskOf } from "../model/risk.js";
import { Link, to } from "../model/router.js";
import { clock, relative } from "../model/time.js";
import { text } from "../text.js";
import { Attempts } from "../graph/node-panel.js";
import { Evidence } from "../ui/evidence.js";
import { Ago, Facts } from "../ui/parts.js";
import { part, Place } from "../ui/part.js";
import { Claim } from "./claim.js";
import { Options } from "./options.js";
import { Closed } from "./closed.js";

const Proposal = part(() => import("./proposal.js"));
const Conversation = part(() => import("./conversation.js"));

interface Props {
  pause: Pause;
  /** Its end, once there is one. */
  resolved: WorkflowEvent | null;
  /** True while it can be decided. */
  open: boolean;
  stale: boolean;
  workflow: string;
  /** How far the workflow has come, where that is followed here: what an option would do changes with it. */
  cursor?: string | undefined;
  onAgain: () => void;
}

export function Intervention({ pause, resolved, open, stale, workflow, cursor, onAgain }: Props) {
  const over = resolved !== null || !open;
  const watched = useRef<string | null>(null);
  useEffect(() => {
    if (over) dropDraft(pause.pause_id);
    else watched.current = pause.pause_id;
  }, [over, pause.pause_id]);
  return (
    <article className="intervention" aria-label={text.pause.label} data-pause={pause.pause_id} data-kind={pause.kind}>
      <Head pause={pause} workflow={workflow} over={over} />
      {over ? <Closed pause={pause} event={resolved} watched={watched.current === pause.pause_id} /> : null}
      {pause.kind === "gate" ? (
        <Place>
          <Proposal pause={pause} />
        </Place>
      ) : null}
      {pause.kind === "escalation" || pause.transcript ? (
        <Place>
          <Conversation pause={pause} open={!over} />
        </Place>
      ) : null}
      {pause.kind === "gate" || pause.kind === "manual" || (pause.kind === "escalation" && !pause.raw_evidence) ? null : (
        <section>
          <details open>
            <summary>
              <h3>{text.pause.evidence}</h3>
            </summary>
            <Evidence of={pause.raw_evidence} />
          </details>
        </section>
      )}
      <Context pause={pause} />
      <AttemptHistory pause={pause} />
      {over ? null : <Options key={pause.pause_id} pause={pause} stale={stale} cursor={cursor} onAgain={onAgain} />}
      {over ? null : <Deadline pause={pause} />}
    </article>
  );
}

function Head({ pause, workflow, over }: { pause: Pause; workflow: string; over: boolean }) {
  const heading = useRef<HTMLHeadingElement>(null);
  const shown = useRef<string | null>(null);
  useEffect(() => {
    // Another pause in the same place: tell where one is. Never on arrival, so that nothing is taken from under a hand.
    if (shown.current !== null && shown.current !== pause.pause_id) heading.current?.focus();
    shown.current = pause.pause_id;
  }, [pause.pause_id]);
  return (
    <header className="pause-head">
      <p className="crumbs" aria-label={text.pause.fault}>
        <Link href={to(["workflows", pause.trace_id])}>{workflow || pause.trace_id}</Link>
        {pause.node_id ? (
          <>
            <span aria-hidden>›</span>
            <Link href={to(["workflows", pause.trace_id], { tab: "graph", node: pause.node_id })}>{pause.node_id}</Link>
          </>
        ) : null}
        {pause.failed_agent ? (
          <>
            <span aria-hidden>›</span>
            <span>{pause.failed_agent}</span>
          </>
        ) : null}
      </p>
      <h2 ref={heading} tabIndex={-1} className="wrap">
        {pause.failure_reason || text.inbox.kinds[pause.kind]}
      </h2>
      <p className="meta">
        <span className="chip" data-kind={pause.kind}>
          {text.inbox.kinds[pause.kind] ?? pause.kind}
        </span>
        <Ago at={pause.at} />
        <Risk pause={pause} />
        {(pause.assignees ?? []).length > 0 ? (
          <span>
            {text.pause.assignees}: {pause.assignees?.join(", ")}
          </span>
        ) : null}
      </p>
      {over ? null : <Claim pause={pause} />}
    </header>
  );
}

function Risk({ pause }: { pause: Pause }) {
  const risk = riskOf(pause);
  return (
    <>
      {risk.rule_id ? (
        <span className="chip" title={text.pause.riskRule(risk.rule_id, String(risk.policy_version ?? ""))}>
          {text.pause.risk} {typeof risk.score === "number" ? risk.score.toFixed(2) : ""} {risk.rule_id}
        </span>
      ) : null}
      {typeof pause.confidence === "number" ? (
        <span className="chip">
          {text.pause.confidence} {pause.confidence.toFixed(2)}
        </span>
      ) : null}
    </>
  );
}

function Context({ pause }: { pause: Pause }) {
  const empty = Object.keys(pause.context_snapshot ?? {}).length === 0;
  if (empty && pause.kind !== "failure") return null;
  return (
    <section>
      <h3>{text.pause.context}</h3>
      {empty ? <p className="dim">{text.pause.contextNone}</p> : <Facts of={pause.context_snapshot} />}
    </section>
  );
}

function AttemptHistory({ pause }: { pause: Pause }) {
  const attempts = attemptsOfPause(pause.attempts as Record<string, unknown>[] | undefined);
  if (attempts.length === 0) return null;
  return (
    <section>
      <details>
        <summary>
          <h3>
            {text.pause.attempts} <span className="dim">({attempts.length})</span>
          </h3>
        </summary>
        <Attempts of={attempts} />
      </details>
    </section>
  );
}

function Deadline({ pause }: { pause: Pause }) {
  const now = useNow(1000, Boolean(pause.expires_at));
  return (
    <p className="deadline dim small">
      {pause.expires_at ? (
        <time dateTime={pause.expires_at} title={clock(pause.expires_at)}>
          {text.pause.deadline(relative(pause.expires_at, now), pause.on_expiry ?? text.common.unknown)}
        </time>
      ) : (
        text.pause.noDeadline
      )}
    </p>
  );
}

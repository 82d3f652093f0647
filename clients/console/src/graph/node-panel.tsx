/** One step in detail: what went in, what came out, each attempt with what the outside said. */

import type { NodeView, Progress, WorkflowEvent, WorkflowState } from "@handrail/client";
import { useQuery } from "@tanstack/react-query";
import { X } from "lucide-react";
import { useEffect, useRef } from "react";
import { client } from "../live/client.js";
import { type Attempt, attemptsOf } from "../model/attempts.js";
import { absolute } from "../model/time.js";
import { text } from "../text.js";
import { Json } from "../ui/evidence.js";
import { Ago, NodeBadge, Took } from "../ui/parts.js";

interface Props {
  node: NodeView;
  state: WorkflowState;
  events: readonly WorkflowEvent[];
  progress?: Progress | undefined;
  onClose: () => void;
}

export function NodePanel({ node, state, events, progress, onClose }: Props) {
  const heading = useRef<HTMLHeadingElement>(null);
  // biome-ignore lint: another node is another panel
  useEffect(() => heading.current?.focus(), [node.id]);
  const attempts = attemptsOf(events, node.id);
  return (
    <aside className="panel" aria-label={text.node.title(node.id)} onKeyDown={(event) => event.key === "Escape" && onClose()}>
      <header className="panel-head">
        <h2 ref={heading} tabIndex={-1}>
          {node.id}
        </h2>
        <button type="button" className="button quiet icon-only" aria-label={text.node.close} onClick={onClose}>
          <X size={16} aria-hidden />
        </button>
      </header>
      <p>
        <NodeBadge state={node.state} /> <Took from={node.started_at} to={node.finished_at} />
      </p>
      {progress?.message || typeof progress?.percent === "number" ? (
        <p className="notice">
          {text.node.progress}: {typeof progress.percent === "number" ? `${progress.percent} % ` : ""}
          {progress.message ?? ""}
        </p>
      ) : null}
      <dl className="facts">
        <Fact name={text.node.agent} value={node.agent} />
        <Fact name={text.node.action} value={node.action} />
        {node.depends_on.length > 0 ? <Fact name={text.node.depends} value={node.depends_on.join(", ")} /> : null}
        {node.worker ? <Fact name={text.node.worker} value={node.worker} /> : null}
        {node.started_at ? <Fact name={text.node.started} value={absolute(node.started_at)} /> : null}
        {node.finished_at ? <Fact name={text.node.finished} value={absolute(node.finished_at)} /> : null}
      </dl>
      {node.error ? <Problem title={text.node.error} error={node.error} /> : null}
      {node.undo_error ? <Problem title={text.node.undoError} error={node.undo_error} /> : null}
      <Inputs node={node} state={state} />
      <section>
        <h3>{text.node.output}</h3>
        {node.output === null || node.output === undefined ? <p className="dim">{text.node.noOutput}</p> : <Json value={node.output} label={text.node.output} />}
      </section>
      {attempts.length > 0 ? (
        <section>
          <h3>{text.node.attempts}</h3>
          <Attempts of={attempts} />
        </section>
      ) : null}
    </aside>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function Problem({ title, error }: { title: string; error: { code: string; message: string } }) {
  return (
    <div className="notice" data-tone="bad">
      <strong>
        {title} <code>{error.code}</code>
      </strong>
      <p className="wrap">{error.message}</p>
    </div>
  );
}

/** What the step works with, as the server resolved it. Asked again when the step moves. */
function Inputs({ node, state }: { node: NodeView; state: WorkflowState }) {
  const given = useQuery({
    queryKey: ["given", state.trace_id, node.id, node.state, node.attempt],
    queryFn: ({ signal }) => client.node(state.trace_id, node.id, { signal }),
    placeholderData: (before) => (before?.node_id === node.id ? before : undefined),
    retry: 1,
  });
  if (!given.data) return null;
  const { inputs, unresolved, overridden, edited } = given.data;
  return (
    <section>
      <h3>{text.node.input}</h3>
      {unresolved.length > 0 ? <p className="dim small">{text.node.inputWaits(unresolved.join(", "))}</p> : null}
      {overridden.length > 0 ? <p className="dim small">{text.node.inputSet(overridden.join(", "))}</p> : null}
      {edited ? <p className="dim small">{text.node.inputEdited}</p> : null}
      <Json value={inputs} label={text.node.input} />
    </section>
  );
}

export function Attempts({ of, open = false }: { of: readonly Attempt[]; open?: boolean }) {
  return (
    <ol className="attempts">
      {of.map((each) => (
        <li key={`${each.undo ? "u" : ""}${each.attempt}`} data-tone={each.error ? "bad" : "good"}>
          <div className="attempt-head">
            <strong>{each.undo ? text.node.undoAttempt(each.attempt) : text.node.attempt(each.attempt)}</strong>
            <span className="dim">{absolute(each.started_at)}</span>
            <Took from={each.started_at} to={each.finished_at} />
            {each.retry_at ? <span className="dim"><Ago at={each.retry_at} prefix="" /></span> : null}
          </div>
          {each.error ? (
            <>
              <p className="wrap">
                <code>{each.error.code}</code> {each.error.message}
              </p>
              {each.error.evidence !== undefined && each.error.evidence !== null ? (
                <details open={open}>
                  <summary>{text.node.evidence}</summary>
                  <Json value={each.error.evidence} label={text.node.evidence} />
                </details>
              ) : null}
            </>
          ) : null}
          {each.ignored ? <p className="dim">{text.node.ignored(each.ignored)}</p> : null}
        </li>
      ))}
    </ol>
  );
}

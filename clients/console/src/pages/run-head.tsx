/** The head of a workflow: what it is, how it stands, and the panic button. */

import { Problem, type WorkflowState } from "@handrail/client";
import { useQuery } from "@tanstack/react-query";
import { OctagonAlert } from "lucide-react";
import { useId, useState } from "react";
import { client } from "../live/client.js";
import { hasEnded } from "../model/status.js";
import { text } from "../text.js";
import { Dialog } from "../ui/dialog.js";
import { Json } from "../ui/evidence.js";
import { Ago, CopyButton, NodeBadge, Took, WorkflowBadge } from "../ui/parts.js";
import { toast } from "../ui/toasts.js";
import { Spending } from "./run-spending.js";

type Order = "pause" | "undo" | "keep";

const ENDED: ReadonlySet<string> = new Set(["COMPLETE", "SKIPPED", "CANCELLED", "COMPENSATED", "NOT_REVERSIBLE", "NOTHING_TO_UNDO"]);
/** Ended unless a person is asked what to do about it. */
const FAILED: ReadonlySet<string> = new Set(["DEAD_LETTERED", "COMPENSATION_FAILED"]);

export function RunHead({ state, title, stale }: { state: WorkflowState; title: string; stale: boolean }) {
  const ended = hasEnded(state.status);
  const [order, setOrder] = useState<Order | null>(null);
  const waiting = new Set(state.pauses.map((pause) => pause.node_id));
  const done = state.nodes.filter((node) => ENDED.has(node.state) || (FAILED.has(node.state) && !waiting.has(node.id))).length;
  return (
    <header className="run-head">
      <div className="run-title">
        <h1 className="wrap" title={title}>
          {title}
        </h1>
        <span data-testid="workflow-status" data-status={state.status}>
          <WorkflowBadge status={state.status} />
        </span>
        {ended ? null : <Panic state={state} disabled={stale} choose={setOrder} />}
      </div>
      <p className="meta">
        <span>
          <code>{state.trace_id}</code>
          <CopyButton value={state.trace_id} small />
        </span>
        {state.blueprint && state.blueprint !== title ? <span>{state.blueprint}</span> : null}
        <span>{text.run.steps(done, state.nodes.length)}</span>
        {state.created_at ? <Ago at={state.created_at} prefix={`${text.run.started.toLowerCase()} `} /> : null}
        {state.created_at ? (
          <span>
            {ended ? text.run.took : text.run.running} <Took from={state.created_at} to={ended ? state.updated_at : null} />
          </span>
        ) : null}
        <Spending state={state} />
        {Object.entries(state.labels).map(([name, value]) => (
          <span className="chip" key={name}>
            {name}:{value}
          </span>
        ))}
      </p>
      {state.reason ? (
        <p className="notice wrap">
          <strong>{text.run.reason}:</strong> {state.reason}
        </p>
      ) : null}
      <details className="run-values">
        <summary>{state.output !== null && state.output !== undefined ? `${text.run.input}, ${text.run.output.toLowerCase()}` : text.run.input}</summary>
        <div className="columns">
          <section>
            <h2>{text.run.input}</h2>
            <Json value={state.input} label={text.run.input} />
          </section>
          {state.output !== null && state.output !== undefined ? (
            <section>
              <h2>{text.run.output}</h2>
              <Json value={state.output} label={text.run.output} />
            </section>
          ) : null}
        </div>
      </details>
      {order ? <PanicDialog key={order} order={order} state={state} onClose={() => setOrder(null)} /> : null}
    </header>
  );
}

function Panic({ state, disabled, choose }: { state: WorkflowState; disabled: boolean; choose: (order: Order) => void }) {
  const paused = state.pauses.some((pause) => pause.kind === "manual");
  const id = useId();
  const pick = (order: Order) => {
    document.getElementById(id)?.hidePopover();
    choose(order);
  };
  return (
    <span className="panic">
      <button type="button" className="button danger" disabled={disabled} popoverTarget={id}>
        <OctagonAlert size={16} aria-hidden /> {text.run.panic}
      </button>
      <div id={id} popover="auto" className="popover menu">
        <button type="button" className="menu-item" disabled={paused} onClick={() => pick("pause")}>
          {text.run.pause}
        </button>
        <button type="button" className="menu-item" onClick={() => pick("undo")}>
          {text.run.cancelUndo}
        </button>
        <button type="button" className="menu-item" onClick={() => pick("keep")}>
          {text.run.cancelKeep}
        </button>
      </div>
    </span>
  );
}

const TITLE: Record<Order, string> = { pause: text.run.pause, undo: text.run.cancelUndo, keep: text.run.cancelKeep };

function PanicDialog({ order, state, onClose }: { order: Order; state: WorkflowState; onClose: () => void }) {
  const [comment, setComment] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const id = useId();
  const [key] = useState(() => crypto.randomUUID?.() ?? String(Math.random()));
  const send = async () => {
    setBusy(true);
    const request = comment.trim() ? { comment: comment.trim() } : {};
    const per = { idempotencyKey: key };
    try {
      if (order === "pause") await client.pause(state.trace_id, request, per);
      else await client.cancel(state.trace_id, { ...request, compensate: order === "undo" }, per);
      toast(text.run.sent, TITLE[order]);
      onClose();
    } catch (error) {
      setProblem(error instanceof Problem ? error.detail : text.pause.unreachable);
      setBusy(false);
    }
  };
  return (
    <Dialog open onClose={onClose} title={TITLE[order]}>
      <h3>{text.run.whatHappens}</h3>
      <Foreseen order={order} state={state} />
      <div className="field">
        <label htmlFor={id}>{text.run.comment}</label>
        <textarea id={id} rows={2} maxLength={4000} value={comment} onChange={(event) => setComment(event.target.value)} />
        <p className="dim small">{text.run.commentHint}</p>
      </div>
      {problem ? (
        <p className="notice" data-tone="bad" role="alert">
          {problem}
        </p>
      ) : null}
      <p className="row">
        <button type="button" className={`button ${order === "pause" ? "primary" : "danger solid"}`} disabled={busy} onClick={send} data-testid="panic-send">
          {order === "pause" ? TITLE[order] : text.pause.confirm(TITLE[order])}
        </button>
        <button type="button" className="button quiet" onClick={onClose}>
          {text.common.cancel}
        </button>
      </p>
    </Dialog>
  );
}

/** What the order would do, asked of the server: the very rules that will do it. */
function Foreseen({ order, state }: { order: Order; state: WorkflowState }) {
  const seen = useQuery({
    queryKey: ["foreseen", state.trace_id, order, state.cursor],
    queryFn: ({ signal }) =>
      order === "pause" ? client.previewPause(state.trace_id, { signal }) : client.previewCancel(state.trace_id, { compensate: order === "undo" }, { signal }),
    placeholderData: (before) => before,
    retry: 1,
  });
  if (seen.isError) return <p className="notice">{seen.error instanceof Problem ? seen.error.detail : text.pause.previewFailed}</p>;
  if (!seen.data) return <p className="dim">{text.pause.previewLoading}</p>;
  const { undo, nodes, under_way: running = [] } = seen.data;
  const stopped = nodes.filter((node) => node.to === "CANCELLED");
  if (order === "pause") {
    return (
      <>
        <p>{text.run.pauseEffect(running.length)}</p>
        <Steps of={running} state={state} />
      </>
    );
  }
  const complete = state.nodes.filter((node) => node.state === "COMPLETE");
  return (
    <>
      <p>{order === "undo" ? text.run.undoEffect(undo.length) : text.run.keepEffect(complete.length)}</p>
      <Steps of={order === "undo" ? undo : complete.map((node) => node.id)} state={state} />
      {running.length > 0 ? <p>{text.run.waitsFor(running.join(", "))}</p> : null}
      <p>{text.run.stopEffect(stopped.length)}</p>
    </>
  );
}

const MOST = 30;

function Steps({ of, state }: { of: readonly string[]; state: WorkflowState }) {
  if (of.length === 0) return null;
  return (
    <ol className="foreseen">
      {of.slice(0, MOST).map((id) => (
        <li key={id}>
          {id} <NodeBadge state={state.nodes.find((node) => node.id === id)?.state ?? "PENDING"} small />
        </li>
      ))}
      {of.length > MOST ? <li className="dim">{text.effect.more(of.length - MOST)}</li> : null}
    </ol>
  );
}

/**
 * The one reducer: events in, the state that clients see out. It mirrors `handrail_contracts/view.py` line for line;
 * golden recordings hold the two together.
 *
 * Incremental, and copy-on-write for what an event touches: a node or pause that did not change keeps its identity, so
 * that a user interface may compare by reference.
 */

import type { NodeView, Pause, WorkflowEvent, WorkflowState, WorkflowStatus } from "./types.js";

type Fields = Record<string, unknown>;

const ENDS: ReadonlySet<string> = new Set([
  "COMPLETED",
  "COMPLETED_WITH_SKIPS",
  "COMPENSATED",
  "COMPENSATION_INCOMPLETE",
  "FAILED",
  "CANCELLED",
]);
export const TERMINAL_EVENTS: ReadonlySet<string> = new Set([
  "WORKFLOW_COMPLETED",
  "WORKFLOW_COMPENSATED",
  "WORKFLOW_COMPENSATION_INCOMPLETE",
  "WORKFLOW_FAILED",
  "WORKFLOW_CANCELLED",
]);
const UNDO_STATES: ReadonlySet<string> = new Set([
  "COMPENSATING",
  "COMPENSATED",
  "COMPENSATION_FAILED",
  "NOT_REVERSIBLE",
  "NOTHING_TO_UNDO",
]);
const NODE_FIELDS = [
  "attempt",
  "max_attempts",
  "output",
  "error",
  "retry_at",
  "worker",
  "started_at",
  "finished_at",
  "usage",
] as const;
const UNDO_FIELDS = {
  attempt: "undo_attempt",
  error: "undo_error",
  started_at: "undo_started_at",
  finished_at: "undo_finished_at",
} as const;
const ENDED_NODE: ReadonlySet<string> = new Set(["COMPLETE", "SKIPPED", "CANCELLED", "DEAD_LETTERED"]);

/** An event came whose `seq` is not the next one; the view is unchanged and must be filled from the journal. */
export class Gap extends Error {
  constructor(
    readonly expected: number,
    readonly found: number,
  ) {
    super(`Expected seq ${expected}, but the event has ${found}. Fill the hole from the journal.`);
    this.name = "Gap";
  }
}

/** What came is no event: a field is missing or of another type. The view is to be thrown away. */
export class NotAnEvent extends TypeError {
  constructor(what: string) {
    super(`Expected an event of a workflow, but ${what}.`);
    this.name = "NotAnEvent";
  }
}

/** The state of one workflow. `cursor` is the `seq` of the last applied event, 0 before the first. */
export class WorkflowView {
  status: WorkflowStatus = "ACCEPTED";
  blueprint: string | null = null;
  intent: string | null = null;
  input: Record<string, unknown> = {};
  labels: Record<string, string> = {};
  cursor = 0;
  output: unknown = null;
  reason: string | null = null;
  created_at: string | null = null;
  updated_at: string | null = null;
  /** In plan order. */
  nodes: Map<string, NodeView> = new Map();
  /** Open ones, oldest first. */
  pauses: Map<string, Pause> = new Map();

  #state: WorkflowState | null = null;

  constructor(readonly trace_id: string) {}

  /** A view that goes on from a snapshot of any age. Throws NotAnEvent on what is no snapshot. */
  static fromState(state: WorkflowState): WorkflowView {
    const cursor = Number(state?.cursor);
    if (!Number.isSafeInteger(cursor) || !Array.isArray(state.nodes) || !Array.isArray(state.pauses)) {
      throw new NotAnEvent("the snapshot lacks its cursor, its nodes or its pauses");
    }
    const view = new WorkflowView(state.trace_id);
    view.status = state.status;
    view.blueprint = state.blueprint;
    view.intent = state.intent;
    view.input = state.input;
    view.labels = state.labels;
    view.cursor = cursor;
    view.output = state.output;
    view.reason = state.reason;
    view.created_at = state.created_at;
    view.updated_at = state.updated_at;
    view.nodes = new Map(state.nodes.map((node) => [node.id, node]));
    view.pauses = new Map(state.pauses.map((pause) => [pause.pause_id, pause]));
    return view;
  }

  /** True once the terminal event was applied. */
  get ended(): boolean {
    return ENDS.has(this.status);
  }

  /** Folds one event in. False for one that was applied before; throws Gap when one is missing, NotAnEvent for what is none. */
  apply(event: WorkflowEvent): boolean {
    if (!Number.isSafeInteger(event?.seq) || typeof event.event_type !== "string") {
      throw new NotAnEvent("it has no seq or no event_type");
    }
    if (event.seq <= this.cursor) return false;
    if (event.seq !== this.cursor + 1) throw new Gap(this.cursor + 1, event.seq);
    this.#fold(event.event_type, event);
    this.updated_at = event.at;
    // Also where the view was begun from the order: the journal's own time wins.
    if (event.seq === 1) this.created_at = event.at;
    this.cursor = event.seq;
    this.#state = null;
    return true;
  }

  /** Folds many in order; returns itself. */
  applyAll(events: Iterable<WorkflowEvent>): this {
    for (const event of events) this.apply(event);
    return this;
  }

  /** The snapshot. The same object until the next event that changes something. */
  state(): WorkflowState {
    this.#state ??= {
      trace_id: this.trace_id,
      status: this.status,
      blueprint: this.blueprint,
      intent: this.intent,
      input: this.input,
      labels: this.labels,
      cursor: String(this.cursor),
      output: this.output,
      reason: this.reason,
      created_at: this.created_at,
      updated_at: this.updated_at,
      nodes: [...this.nodes.values()],
      pauses: [...this.pauses.values()],
    };
    return this.#state;
  }

  #fold(kind: string, e: Fields): void {
    switch (kind) {
      case "NODE_STATE_CHANGED":
        return this.#nodeChanged(e);
      case "WORKFLOW_ACCEPTED":
        this.intent = e.intent as string | null;
        this.blueprint = e.blueprint as string | null;
        this.input = e.input as Record<string, unknown>;
        this.labels = e.labels as Record<string, string>;
        this.status = e.status as WorkflowStatus;
        return;
      case "WORKFLOW_PLANNED":
        this.#addNodes(e);
        this.status = "RUNNING";
        return;
      case "NODES_ADDED":
        return this.#addNodes(e);
      case "WORKFLOW_PAUSED_HITL":
        this.status = "PAUSED_HITL";
        this.pauses.set(String(e.pause_id), { ...e } as unknown as Pause);
        return;
      case "PAUSE_UPDATED":
        return this.#pauseUpdated(e);
      case "MESSAGE_ADDED":
        return this.#messageAdded(e);
      case "HITL_RESOLVED":
        this.pauses.delete(String(e.pause_id));
        return;
      case "WORKFLOW_RESUMED":
        this.status = e.status as WorkflowStatus;
        return;
      case "WORKFLOW_COMPENSATING":
        if (this.pauses.size === 0) this.status = "COMPENSATING";
        return;
      default:
        if (TERMINAL_EVENTS.has(kind)) {
          this.status = e.status as WorkflowStatus;
          this.output = e.output;
          this.reason = e.reason as string | null;
          this.pauses.clear();
        }
    }
  }

  #addNodes(e: Fields): void {
    if (!Array.isArray(e.nodes)) throw new NotAnEvent("it has no nodes");
    for (const node of e.nodes as NodeView[]) {
      this.nodes.set(node.id, { ...node, started_at: null, finished_at: null, output: null, error: null });
    }
  }

  #pauseUpdated(e: Fields): void {
    const pause = this.pauses.get(String(e.pause_id));
    if (pause === undefined) return;
    const changed: Fields = { ...pause };
    for (const field of ["claimed_by", "claimed_until", "reminded_at"]) {
      if (Object.hasOwn(e, field)) changed[field] = e[field];
    }
    this.pauses.set(pause.pause_id, changed as unknown as Pause);
  }

  #messageAdded(e: Fields): void {
    const pause = this.pauses.get(String(e.pause_id));
    if (pause === undefined) return;
    const withheld = e.withheld === true ? { withheld: true } : {};
    const said = { role: String(e.role), text: String(e.text), at: String(e.at), ...withheld };
    this.pauses.set(pause.pause_id, { ...pause, transcript: [...(pause.transcript ?? []), said] });
  }

  #nodeChanged(e: Fields): void {
    const node = this.nodes.get(String(e.node_id));
    if (node === undefined) return;
    const to = String(e.to);
    const changed: Fields = { ...node, state: to };
    this.nodes.set(node.id, changed as unknown as NodeView);
    if (UNDO_STATES.has(to)) {
      for (const [field, name] of Object.entries(UNDO_FIELDS)) {
        if (Object.hasOwn(e, field)) changed[name] = e[field];
      }
      if (to === "COMPENSATED") delete changed.undo_error;
      return;
    }
    for (const field of NODE_FIELDS) {
      if (Object.hasOwn(e, field)) changed[field] = e[field];
    }
    if (!Object.hasOwn(e, "retry_at")) delete changed.retry_at;
    if (to === "COMPLETE") changed.error = null;
    else if (to === "SCHEDULED") changed.started_at = changed.finished_at = null;
    if (ENDED_NODE.has(to) && !Object.hasOwn(e, "finished_at")) changed.finished_at = e.at;
  }
}

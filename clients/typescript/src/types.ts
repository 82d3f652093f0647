/** What Handrail says and hears, by name. The shapes are generated from its contracts (schema.ts). */

import type { components } from "./schema.js";

type Schemas = components["schemas"];

export type Json = unknown;
export type WorkflowStatus = Schemas["WorkflowStatus"];
export type NodeStatus = Schemas["NodeStatus"];
export type PauseKind = Schemas["PauseKind"];
export type ErrorInfo = Schemas["ErrorInfo"];
export type Accepted = Schemas["Accepted"];
export type Ordered = Schemas["Ordered"];
export type Resuming = Schemas["Resuming"];
export type Preview = Schemas["Preview"];
export type NodeInputs = Schemas["NodeInputs"];
export type WorkflowSummary = Schemas["WorkflowSummary"];
export type Claimed = Schemas["Claimed"];
export type DeadLetter = Schemas["DeadLetterView"];
export type QuarantinedRecord = Schemas["QuarantineView"];
export type Agent = Schemas["AgentView"];
export type AgentAction = Schemas["AgentAction"];
/** Under `handrail up` only. */
export type DevTopic = Schemas["DevTopic"];
export type DevRecord = Schemas["DevRecord"];
export type Blueprint = Schemas["BlueprintView"];
export type EscalationOpened = Schemas["EscalationOpened"];
export type Feedback = Schemas["Feedback"];
/** One version of a policy, as it is stored. */
export type Policy = Schemas["PolicyView"];
export type PolicySimulation = Schemas["Simulated"];
export type PolicySuggestion = Schemas["Suggestion"];
export type Plan = Schemas["Plan"];
export type SseTicket = Schemas["SseTicket"];
export type ProblemBody = Schemas["Problem"] & Record<string, unknown>;
export type FieldProblem = Schemas["FieldProblem"];

/** One button of a pause. `input_schema` is a shorthand (`url`, `text` …) or a JSON Schema. */
export interface Resolution {
  action_id: string;
  display_text: string;
  requires_input: boolean;
  input_schema?: string | Record<string, unknown> | null;
  style?: "primary" | "neutral" | "danger";
  kind?: string;
}

/** What a simulator really did or undid. `repeats` counts how often the same key came again. */
export interface LedgerEntry {
  trace_id: string;
  node_id: string;
  attempt: number;
  effect_key: string;
  kind: "do" | "undo";
  repeats: number;
  at: string;
}

/** Tokens or money: so much is spent, and at `limit` a person is asked; null where nothing limits it. */
export interface Spending {
  spent: number;
  limit: number | null;
}

/** Somebody's words in the conversation of an escalation. */
export interface Message {
  role: string;
  text: string;
  at: string;
}

/** A pause as the state, the inbox and `WORKFLOW_PAUSED_HITL` show it. */
export type Pause = Omit<Schemas["Pause"], "available_resolutions" | "transcript" | "raw_evidence"> & {
  available_resolutions: Resolution[];
  transcript?: Message[] | null;
  raw_evidence: { content_type?: string; body?: Json; truncated?: boolean } | null;
  reminded_at?: string | null;
};

/** A pause over all workflows: how it stands, and of which workflow it is. */
export type InboxPause = Pause & Pick<Schemas["InboxPause"], "state" | "decision" | "closed_at" | "workflow">;

/** A node of the view. `error` is that of its last failed attempt; the `undo_…` fields are of its second life. */
export interface NodeView {
  id: string;
  agent: string;
  action: string;
  depends_on: string[];
  state: NodeStatus;
  attempt: number;
  max_attempts: number;
  started_at: string | null;
  finished_at: string | null;
  output: Json;
  error: ErrorInfo | null;
  retry_at?: string | null;
  worker?: string | null;
  usage?: Record<string, unknown> | null;
  undo_attempt?: number;
  undo_error?: ErrorInfo | null;
  undo_started_at?: string | null;
  undo_finished_at?: string | null;
}

/** The snapshot of a workflow. `cursor` is the `seq` of its last event, as text. */
export interface WorkflowState {
  trace_id: string;
  status: WorkflowStatus;
  blueprint: string | null;
  intent: string | null;
  input: Record<string, unknown>;
  labels: Record<string, string>;
  cursor: string;
  output: Json;
  reason: string | null;
  created_at: string | null;
  updated_at: string | null;
  nodes: NodeView[];
  pauses: Pause[];
  history?: WorkflowEvent[];
  history_truncated?: boolean;
  history_next?: string;
}

interface Events {
  WORKFLOW_ACCEPTED: Schemas["WorkflowAccepted"];
  WORKFLOW_PLANNED: Schemas["WorkflowPlanned"];
  NODES_ADDED: Schemas["NodesAdded"];
  NODE_STATE_CHANGED: Schemas["NodeStateChanged"];
  RESULT_IGNORED: Schemas["ResultIgnored"];
  TASK_DEAD_LETTERED: Schemas["TaskDeadLettered"];
  GATE_EVALUATED: Schemas["GateEvaluated"];
  WORKFLOW_PAUSED_HITL: Pause;
  PAUSE_UPDATED: Schemas["PauseUpdated"];
  MESSAGE_ADDED: Schemas["MessageAdded"];
  HITL_RESOLVED: Schemas["HitlResolved"];
  WORKFLOW_RESUMED: Schemas["WorkflowResumed"];
  WORKFLOW_COMPENSATING: Schemas["WorkflowCompensating"];
  WORKFLOW_COMPLETED: Schemas["WorkflowEnded"];
  WORKFLOW_COMPENSATED: Schemas["WorkflowEnded"];
  WORKFLOW_COMPENSATION_INCOMPLETE: Schemas["WorkflowEnded"];
  WORKFLOW_FAILED: Schemas["WorkflowEnded"];
  WORKFLOW_CANCELLED: Schemas["WorkflowEnded"];
}

export type EventType = keyof Events;

/** An event that this client knows; `event_type` tells which. */
export type KnownEvent = {
  [K in EventType]: Omit<Events[K], "event_type"> & { event_type: K };
}[EventType];

/** Any event as it came. Types that a newer server adds are counted by their `seq` and change nothing else. */
export interface WorkflowEvent {
  event_type: string;
  trace_id: string;
  seq: number;
  at: string;
  [field: string]: unknown;
}

/** Narrows an event to one that this client knows. */
export function isKnown(event: WorkflowEvent): event is WorkflowEvent & KnownEvent {
  return KNOWN.has(event.event_type);
}

/** What an agent says while it works: shown, never part of the order. */
export interface Progress {
  node_id: string;
  attempt?: number;
  percent?: number | null;
  message?: string | null;
  at?: string | null;
  [field: string]: unknown;
}

/** A part of a list. Ask with `next_cursor` for the next part; null is the end. */
export interface Page<T> {
  items: T[];
  next_cursor: string | null;
  total?: number;
}

const KNOWN: ReadonlySet<string> = new Set<EventType>([
  "WORKFLOW_ACCEPTED",
  "WORKFLOW_PLANNED",
  "NODES_ADDED",
  "NODE_STATE_CHANGED",
  "RESULT_IGNORED",
  "TASK_DEAD_LETTERED",
  "GATE_EVALUATED",
  "WORKFLOW_PAUSED_HITL",
  "PAUSE_UPDATED",
  "MESSAGE_ADDED",
  "HITL_RESOLVED",
  "WORKFLOW_RESUMED",
  "WORKFLOW_COMPENSATING",
  "WORKFLOW_COMPLETED",
  "WORKFLOW_COMPENSATED",
  "WORKFLOW_COMPENSATION_INCOMPLETE",
  "WORKFLOW_FAILED",
  "WORKFLOW_CANCELLED",
]);

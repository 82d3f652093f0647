/** An event in one line of words. */

import type { WorkflowEvent } from "@handrail/client";
import { text } from "../text.js";
import { nodeLook, workflowLook } from "./status.js";

const short = (value: unknown, most = 160): string => {
  const whole = typeof value === "string" ? value : (JSON.stringify(value) ?? "");
  return whole.length > most ? `${whole.slice(0, most)}…` : whole;
};

export function sentence(event: WorkflowEvent): string {
  switch (event.event_type) {
    case "WORKFLOW_ACCEPTED":
      return `Accepted${event.blueprint ? `: ${short(event.blueprint)}` : ""}${event.intent ? ` “${short(event.intent)}”` : ""}`;
    case "WORKFLOW_PLANNED":
      return `Planned: ${short(event.node_count)} steps`;
    case "NODES_ADDED":
      return `${Array.isArray(event.nodes) ? event.nodes.length : 0} steps added${event.by ? ` by ${short(event.by)}` : ""}`;
    case "NODE_STATE_CHANGED":
      return nodeChanged(event);
    case "RESULT_IGNORED":
      return `${short(event.node_id)}: an answer to attempt ${short(event.attempt)} was ignored (${short(event.reason)})`;
    case "TASK_DEAD_LETTERED":
      return `${short(event.node_id)}: all attempts are used up, the task is a dead letter`;
    case "GATE_EVALUATED":
      return `${short(event.node_id)}: policy ${short(event.rule_id ?? "")} says ${short(event.decide)}`;
    case "WORKFLOW_PAUSED_HITL":
      return `Needs a person${event.node_id ? ` at ${short(event.node_id)}` : ""}: ${short(event.failure_reason)}`;
    case "PAUSE_UPDATED":
      return event.claimed_by ? `Claimed by ${short(event.claimed_by)}` : event.reminded_at ? "Reminded" : "Claim given back";
    case "MESSAGE_ADDED":
      return `${short(event.role)}: ${short(event.text)}`;
    case "HITL_RESOLVED":
      return `${short(event.outcome)} by ${short(event.actor)} over ${short(event.channel)}${event.action_id ? `: ${short(event.action_id)}` : ""}`;
    case "WORKFLOW_RESUMED":
      return "Goes on";
    case "WORKFLOW_COMPENSATING":
      return `Undoing ${Array.isArray(event.nodes) ? event.nodes.length : 0} steps${event.reason ? `: ${short(event.reason)}` : ""}`;
    default:
      if (typeof event.status === "string") return `Ended: ${workflowLook(event.status).word}${event.reason ? `, ${short(event.reason)}` : ""}`;
      return `Unknown event ${short(event.event_type, 60)}`;
  }
}

function nodeChanged(event: WorkflowEvent): string {
  const to = nodeLook(String(event.to)).word;
  const error = event.error as { code?: unknown; message?: unknown } | null | undefined;
  const attempt = typeof event.attempt === "number" && event.attempt > 1 ? `, attempt ${event.attempt}` : "";
  return `${short(event.node_id)}: ${to}${attempt}${error ? `, ${short(error.code)}: ${short(error.message)}` : ""}`;
}

const OPERATORS: Record<string, string> = { eq: "is", ne: "is not", gt: ">", ge: "≥", lt: "<", le: "≤", in: "is one of", contains: "contains" };

/** What a rule of a policy looks for: `action is transfer, args.amount > 100`. */
export function conditionOf(match: Record<string, unknown>): string {
  const parts = Object.entries(match).flatMap(([fact, wanted]) => {
    if (typeof wanted !== "object" || wanted === null) return [`${fact} is ${shownValue(wanted)}`];
    if (Array.isArray(wanted)) return [`${fact} is one of ${shownValue(wanted)}`];
    return Object.entries(wanted).map(([operator, value]) => {
      if (operator === "exists") return value ? `${fact} is given` : `${fact} is missing`;
      return `${fact} ${OPERATORS[operator] ?? operator} ${shownValue(value)}`;
    });
  });
  return parts.length > 0 ? parts.join(", ") : text.policies.anything;
}

function shownValue(value: unknown): string {
  if (Array.isArray(value)) return value.map(shownValue).join(", ");
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** How a status looks: colour, icon, word and border, so that it reads without any one of them. CONSOLE.md has the table. */

export type Token =
  | "pending"
  | "progress"
  | "complete"
  | "failed"
  | "human"
  | "compensating"
  | "compensated"
  | "skipped"
  | "cancelled"
  | "unknown";

export interface Look {
  token: Token;
  word: string;
}

/** The picture beside each token: the icon's name and the border, both unique together with the word. */
export const TOKENS: Record<Token, { icon: string; border: string; word: string }> = {
  pending: { icon: "circle", border: "solid-1", word: "Pending" },
  progress: { icon: "spinner", border: "solid-2", word: "In progress" },
  complete: { icon: "check", border: "solid-2", word: "Complete" },
  failed: { icon: "octagon-x", border: "double", word: "Failed" },
  human: { icon: "hand", border: "thick-dashed", word: "Needs you" },
  compensating: { icon: "undo", border: "dotted", word: "Rolling back" },
  compensated: { icon: "undo-check", border: "dotted", word: "Rolled back" },
  skipped: { icon: "skip-forward", border: "dashed", word: "Skipped" },
  cancelled: { icon: "circle-minus", border: "dashed", word: "Cancelled" },
  unknown: { icon: "question", border: "solid-1", word: "Unknown" },
};

const NODE: Record<string, Look> = {
  PENDING: { token: "pending", word: "Pending" },
  SCHEDULED: { token: "pending", word: "Scheduled" },
  IN_PROGRESS: { token: "progress", word: "In progress" },
  RETRYING: { token: "progress", word: "Retrying" },
  AWAITING_HUMAN: { token: "human", word: "Needs you" },
  COMPLETE: { token: "complete", word: "Complete" },
  DEAD_LETTERED: { token: "failed", word: "Failed" },
  SKIPPED: { token: "skipped", word: "Skipped" },
  CANCELLED: { token: "cancelled", word: "Cancelled" },
  COMPENSATING: { token: "compensating", word: "Rolling back" },
  COMPENSATED: { token: "compensated", word: "Rolled back" },
  COMPENSATION_FAILED: { token: "failed", word: "Undo failed" },
  NOT_REVERSIBLE: { token: "skipped", word: "Not reversible" },
  NOTHING_TO_UNDO: { token: "skipped", word: "Nothing to undo" },
};

const WORKFLOW: Record<string, Look> = {
  ACCEPTED: { token: "pending", word: "Accepted" },
  PLANNING: { token: "progress", word: "Planning" },
  RUNNING: { token: "progress", word: "Running" },
  PAUSED_HITL: { token: "human", word: "Needs you" },
  COMPENSATING: { token: "compensating", word: "Rolling back" },
  COMPLETED: { token: "complete", word: "Completed" },
  COMPLETED_WITH_SKIPS: { token: "complete", word: "Completed with skips" },
  COMPENSATED: { token: "compensated", word: "Rolled back" },
  COMPENSATION_INCOMPLETE: { token: "failed", word: "Rolled back in part" },
  FAILED: { token: "failed", word: "Failed" },
  CANCELLED: { token: "cancelled", word: "Cancelled" },
};

export const WORKFLOW_STATUSES = Object.keys(WORKFLOW);
export const NODE_STATES = Object.keys(NODE);

const ENDED = new Set(["COMPLETED", "COMPLETED_WITH_SKIPS", "COMPENSATED", "COMPENSATION_INCOMPLETE", "FAILED", "CANCELLED"]);
const UNDO = new Set(["COMPENSATING", "COMPENSATED", "COMPENSATION_FAILED", "NOT_REVERSIBLE", "NOTHING_TO_UNDO"]);
const RUNNING = new Set(["IN_PROGRESS", "RETRYING", "COMPENSATING", "SCHEDULED"]);
const FAULT = new Set(["AWAITING_HUMAN", "DEAD_LETTERED", "COMPENSATION_FAILED"]);

/** The look of a node state; one that we do not know is shown by name, never left out. */
export function nodeLook(state: string): Look {
  return NODE[state] ?? { token: "unknown", word: `Unknown (${state.slice(0, 30)})` };
}

/** The look of a workflow status. */
export function workflowLook(status: string): Look {
  return WORKFLOW[status] ?? { token: "unknown", word: `Unknown (${status.slice(0, 30)})` };
}

export const hasEnded = (status: string): boolean => ENDED.has(status);
export const isUndo = (state: string): boolean => UNDO.has(state);
export const isActive = (state: string): boolean => RUNNING.has(state);
export const isFault = (state: string): boolean => FAULT.has(state);

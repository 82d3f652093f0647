/** The attempts of a step, read out of the events. */

import type { ErrorInfo, WorkflowEvent } from "@handrail/client";
import { isUndo } from "./status.js";

export interface Attempt {
  attempt: number;
  undo: boolean;
  started_at: string | null;
  finished_at: string | null;
  error: ErrorInfo | null;
  retry_at: string | null;
  ignored: string | null;
}

/** Oldest first; undos come behind, counted by themselves. */
export function attemptsOf(events: readonly WorkflowEvent[], nodeId: string): Attempt[] {
  const found = new Map<string, Attempt>();
  for (const event of events) {
    if (event.node_id !== nodeId) continue;
    const n = typeof event.attempt === "number" ? event.attempt : 0;
    if (event.event_type === "NODE_STATE_CHANGED" && n > 0) change(found, event, n);
    else if (event.event_type === "RESULT_IGNORED" && n > 0) {
      const old = at(found, n, false);
      found.set(String(n), { ...old, ignored: String(event.reason) });
    } else if (event.event_type === "TASK_DEAD_LETTERED" && Array.isArray(event.attempts)) {
      for (const each of event.attempts as Attempt[]) merge(found, each);
    }
  }
  return [...found.values()];
}

/** The attempts that a pause carries, in the same form. */
export function attemptsOfPause(attempts: readonly Record<string, unknown>[] | undefined): Attempt[] {
  const found = new Map<string, Attempt>();
  for (const each of attempts ?? []) merge(found, each as unknown as Attempt);
  return [...found.values()];
}

function change(found: Map<string, Attempt>, event: WorkflowEvent, n: number): void {
  const to = String(event.to);
  if (to === "SCHEDULED" || to === "AWAITING_HUMAN" || to === "DEAD_LETTERED") {
    if (!found.has(String(n)) || to === "SCHEDULED") return;
  }
  const undo = isUndo(to);
  const old = at(found, n, undo);
  const text = (name: string): string | null => (typeof event[name] === "string" ? (event[name] as string) : null);
  found.set(undo ? `u${n}` : String(n), {
    ...old,
    started_at: text("started_at") ?? old.started_at,
    finished_at: text("finished_at") ?? old.finished_at,
    error: (event.error as ErrorInfo | undefined) ?? old.error,
    retry_at: text("retry_at") ?? (to === "RETRYING" ? old.retry_at : null),
  });
}

function merge(found: Map<string, Attempt>, each: Partial<Attempt>): void {
  const n = Number(each.attempt ?? 0);
  const old = at(found, n, false);
  found.set(String(n), {
    ...old,
    started_at: each.started_at ?? old.started_at,
    finished_at: each.finished_at ?? old.finished_at,
    error: each.error ?? old.error,
    retry_at: null,
  });
}

function at(found: Map<string, Attempt>, n: number, undo: boolean): Attempt {
  const none = { attempt: n, undo, started_at: null, finished_at: null, error: null, retry_at: null, ignored: null };
  return found.get(undo ? `u${n}` : String(n)) ?? none;
}

/** A workflow for those who listen: what changed, in short; a new pause at once. Durations are never told. */

import type { WorkflowState } from "@handrail/client";
import { useEffect, useRef } from "react";
import { hasEnded, nodeLook, workflowLook } from "../model/status.js";
import { text } from "../text.js";
import { announce, interrupt } from "../ui/announce.js";

export function useAnnouncedRun(state: WorkflowState): void {
  const before = useRef<WorkflowState | null>(null);
  useEffect(() => {
    const was = before.current;
    before.current = state;
    if (was === null || was === state) return;
    for (const sentence of newsOf(was, state)) announce(sentence);
    const open = new Set(was.pauses.map((pause) => pause.pause_id));
    const fresh = state.pauses.find((pause) => !open.has(pause.pause_id));
    if (fresh) interrupt(`${text.live.paused(fresh.node_id ?? text.inbox.of(null))}: ${fresh.failure_reason}`);
  }, [state]);
}

/** One sentence per kind of change. */
export function newsOf(was: WorkflowState, now: WorkflowState): string[] {
  const old = new Map(was.nodes.map((node) => [node.id, node.state]));
  const by = new Map<string, string[]>();
  for (const node of now.nodes) {
    if (old.get(node.id) === node.state || node.state === "SCHEDULED" || node.state === "PENDING") continue;
    const word = nodeLook(node.state).word.toLowerCase();
    by.set(word, [...(by.get(word) ?? []), node.id]);
  }
  const told = [...by].map(([word, ids]) => (word === "complete" && ids.length > 1 ? text.live.complete(ids.length) : text.live.nodes(ids.slice(0, 3).join(", "), word)));
  if (was.status !== now.status && hasEnded(now.status)) told.push(text.live.ended(workflowLook(now.status).word));
  return told;
}

/** Pressing a button: sent once, refused in words, done when the orchestrator's event says so. */

import { type Pause, Problem, type Resolution, type ResumeRequest, Unreachable } from "@handrail/client";
import { useCallback, useEffect, useRef, useState } from "react";
import { client } from "../live/client.js";

export type Phase =
  | { name: "idle" }
  | { name: "sending"; action: string }
  | { name: "accepted"; action: string }
  | { name: "refused"; action: string; problem: Problem }
  | { name: "unreachable"; action: string; reason: string };

export interface Press {
  resolution: Resolution;
  input?: unknown;
  comment: string;
  override: boolean;
}

const IDLE: Phase = { name: "idle" };

/** One decision on one pause. */
export function useDecision(pause: Pause): { phase: Phase; press: (what: Press) => Promise<Phase>; forget: () => void } {
  const [phase, setPhase] = useState<Phase>(IDLE);
  const sent = useRef<{ body: string; key: string } | null>(null);
  // biome-ignore lint: another pause is another decision
  useEffect(() => setPhase(IDLE), [pause.pause_id]);
  const press = useCallback(
    async ({ resolution, input, comment, override }: Press): Promise<Phase> => {
      const action = resolution.action_id;
      const request: ResumeRequest = { action_id: action, pause_id: pause.pause_id };
      if (resolution.requires_input) request.input = input;
      if (comment.trim()) request.comment = comment.trim();
      if (pause.evidence_digest) request.evidence_digest = pause.evidence_digest;
      if (override) request.override_claim = true;
      // The same decision keeps its key over a broken connection: it happens once, however often it is pressed.
      const body = JSON.stringify(request);
      if (sent.current?.body !== body) sent.current = { body, key: crypto.randomUUID?.() ?? String(Math.random()) };
      setPhase({ name: "sending", action });
      const next = await answered(client.resume(pause.trace_id, request, { idempotencyKey: sent.current.key }), action);
      setPhase(next);
      return next;
    },
    [pause],
  );
  return { phase, press, forget: useCallback(() => setPhase(IDLE), []) };
}

export async function answered(call: Promise<unknown>, action: string): Promise<Phase> {
  try {
    await call;
    return { name: "accepted", action };
  } catch (error) {
    if (error instanceof Problem) return { name: "refused", action, problem: error };
    if (error instanceof Unreachable) return { name: "unreachable", action, reason: error.reason };
    return { name: "unreachable", action, reason: error instanceof Error ? error.message : String(error) };
  }
}

/** Codes after which nothing can be decided here any more. */
export const OVER: ReadonlySet<string> = new Set(["already-resolved", "stale-pause", "expired", "not-paused", "pause-not-found"]);

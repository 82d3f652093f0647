/** Pauses that look the same: the same kind, agent and error. What helps one may help all. */

import type { Pause, Resolution } from "@handrail/client";

export interface Cluster {
  signature: string;
  agent: string;
  code: string;
  /** In the order of the list. */
  pauses: readonly Pause[];
}

/** The code of the last error, else the reason. */
export function errorCode(pause: Pause): string {
  const own = (pause as unknown as { error_code?: unknown }).error_code;
  if (typeof own === "string" && own) return own;
  const last = pause.attempts?.at(-1) as { error?: { code?: unknown } } | undefined;
  return typeof last?.error?.code === "string" ? last.error.code : "";
}

export function signature(pause: Pause): string {
  return JSON.stringify([pause.kind, pause.failed_agent, errorCode(pause) || pause.failure_reason]);
}

/** Clusters of two and more, and for each pause how many are like it. */
export function clustersOf(pauses: readonly Pause[]): Map<string, Cluster> {
  const by = new Map<string, Pause[]>();
  for (const pause of pauses) {
    // Approvals and conversations are about one case each: they are never decided in bulk.
    if (pause.kind === "gate" || pause.kind === "escalation") continue;
    const key = signature(pause);
    by.set(key, [...(by.get(key) ?? []), pause]);
  }
  const found = new Map<string, Cluster>();
  for (const [key, alike] of by) {
    const [first] = alike;
    if (alike.length < 2 || !first) continue;
    found.set(key, { signature: key, agent: first.failed_agent ?? "", code: errorCode(first), pauses: alike });
  }
  return found;
}

/** The buttons that every one of them offers. */
export function commonResolutions(pauses: readonly Pause[]): Resolution[] {
  const [first, ...others] = pauses;
  if (!first) return [];
  return first.available_resolutions.filter((button) =>
    others.every((other) =>
      other.available_resolutions.some(
        (each) => each.action_id === button.action_id && JSON.stringify(each.input_schema ?? null) === JSON.stringify(button.input_schema ?? null),
      ),
    ),
  );
}

/** Deadline, then risk, then age: what is most pressing comes first. */
export function pressing(a: Pause, b: Pause): number {
  const deadline = (pause: Pause) => (pause.expires_at ? Date.parse(pause.expires_at) : Number.POSITIVE_INFINITY);
  const risk = (pause: Pause) => Number((pause.risk as { score?: unknown } | null | undefined)?.score ?? 0) || 0;
  const [da, db] = [deadline(a), deadline(b)];
  if (da !== db) return da < db ? -1 : 1;
  return risk(b) - risk(a) || Date.parse(a.at) - Date.parse(b.at) || (a.pause_id < b.pause_id ? -1 : 1);
}

/** What a button would do, in one line, out of the server's preview. */

import type { Preview } from "@handrail/client";
import { text } from "../text.js";
import { workflowLook } from "./status.js";

const SHOWN = 3;

function ids(all: readonly string[]): string {
  const shown = all.slice(0, SHOWN).join(", ");
  return all.length > SHOWN ? `${shown} ${`+ ${text.effect.more(all.length - SHOWN)}`}` : shown;
}

/** `skips laptop, runs welcome`. `kind` of the button: only a retry runs something *again*. */
export function consequence(preview: Preview, kind = "retry"): string {
  const parts: string[] = [];
  const to = (...states: string[]) => preview.nodes.filter((node) => states.includes(node.to)).map((node) => node.node_id);
  const skipped = [...new Set([...(preview.skipped ?? []), ...to("SKIPPED")])];
  if (skipped.length > 0) parts.push(text.effect.skip(ids(skipped)));
  const again = preview.nodes.filter((node) => node.to === "SCHEDULED" || node.to === "IN_PROGRESS");
  const first = kind === "approve" || kind === "edit" || kind === "resume";
  const retried = again.filter((node) => node.from !== "PENDING" && !first).map((node) => node.node_id);
  const run = again.filter((node) => node.from === "PENDING" || first).map((node) => node.node_id);
  if (retried.length > 0) parts.push(text.effect.again(ids(retried)));
  if (run.length > 0) parts.push(text.effect.run(ids(run)));
  const byHand = to("COMPENSATED");
  if (byHand.length > 0) parts.push(text.effect.byHand(ids(byHand)));
  const complete = to("COMPLETE");
  if (complete.length > 0) parts.push(text.effect.complete(ids(complete)));
  if (preview.undo.length > 0) parts.push(text.effect.undo(ids(preview.undo)));
  const kept = [...new Set([...(preview.standing ?? []), ...to("NOT_REVERSIBLE")])];
  if (kept.length > 0) parts.push(text.effect.keep(ids(kept)));
  const cancelled = to("CANCELLED");
  if (cancelled.length > 0) parts.push(text.effect.cancel(ids(cancelled)));
  if (parts.length === 0) parts.push(text.effect.nothing);
  return `${parts.join(", ")}; ${text.effect.then(workflowLook(preview.status_after).word.toLowerCase())}`;
}

/** Whether some of what it touches cannot be undone. */
export function touchesIrreversible(preview: Preview): boolean {
  return preview.undo.length > 0 && preview.nodes.some((node) => node.to === "NOT_REVERSIBLE");
}

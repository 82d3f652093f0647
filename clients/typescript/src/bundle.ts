/** Several workflows on one connection, for lists: what happens to any of them, as it happens. */

import type { Calls } from "./calls.js";
import type { Frame } from "./sse.js";
import { type Follower, follow, type StreamOptions, type TicketOrder, type Verdict } from "./stream.js";
import type { WorkflowEvent } from "./types.js";
import { object } from "./watch.js";

/** The server follows so many workflows on one stream. */
export const BUNDLE_MEMBERS = 100;

/** News of one workflow: an event of it, or `snapshot` where its state was sent anew. */
export type BundleNews = Pick<WorkflowEvent, "event_type" | "trace_id"> & Record<string, unknown>;

/** Follows up to 100 workflows until all have ended or the signal is aborted. */
export async function watchBundle(
  calls: Calls,
  traceIds: readonly string[],
  options: StreamOptions,
  receive: (news: BundleNews) => void | Promise<void>,
): Promise<void> {
  if (traceIds.length === 0) return;
  await follow(calls, new BundleFollower(traceIds.slice(0, BUNDLE_MEMBERS), receive), options);
}

class BundleFollower implements Follower {
  constructor(
    readonly traceIds: readonly string[],
    readonly receive: (news: BundleNews) => void | Promise<void>,
  ) {}

  route(): string {
    return `/events?${new URLSearchParams(this.traceIds.map((id) => ["trace_id", id]))}`;
  }

  ticket(): TicketOrder {
    return { trace_ids: [...this.traceIds] };
  }

  position(): null {
    return null;
  }

  async over(): Promise<Verdict> {
    return "done";
  }

  async take(frame: Frame): Promise<Verdict> {
    if (frame.event === "end") return "done";
    if (frame.event === "progress") return "go on";
    const data = object(frame.data);
    await this.receive({ ...data, event_type: frame.event, trace_id: String(data.trace_id) });
    return "go on";
  }
}

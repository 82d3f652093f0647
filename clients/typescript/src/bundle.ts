/** Several workflows on one connection, for lists: what happens to any of them, as it happens. */

import type { Calls } from "./calls.js";
import type { Frame } from "./sse.js";
import { type Follower, follow, type StreamOptions, type TicketOrder, type Verdict } from "./stream.js";
import type { WorkflowEvent } from "./types.js";
import { object } from "./watch.js";

/** The server follows so many workflows on one stream. */
export const BUNDLE_MEMBERS = 100;

/**
 * News of one workflow: an event of it, or `snapshot` where its state was sent anew. With `started` also `started`: others
 * were accepted, `count` of them (null: some may have been missed), the newest in `trace_ids`; its `trace_id` is empty.
 */
export type BundleNews = Pick<WorkflowEvent, "event_type" | "trace_id"> & Record<string, unknown>;

export interface BundleOptions extends StreamOptions {
  /** Tell also when any workflow is accepted; then it goes on until the signal is aborted. */
  started?: boolean | undefined;
}

/** Follows up to 100 workflows until all have ended or the signal is aborted. */
export async function watchBundle(
  calls: Calls,
  traceIds: readonly string[],
  options: BundleOptions,
  receive: (news: BundleNews) => void | Promise<void>,
): Promise<void> {
  const started = options.started === true;
  if (traceIds.length === 0 && !started) return;
  await follow(calls, new BundleFollower(traceIds.slice(0, BUNDLE_MEMBERS), started, receive), options);
}

class BundleFollower implements Follower {
  constructor(
    readonly traceIds: readonly string[],
    readonly started: boolean,
    readonly receive: (news: BundleNews) => void | Promise<void>,
  ) {}

  route(): string {
    const asked = this.traceIds.map((id) => ["trace_id", id]);
    return `/events?${new URLSearchParams(this.started ? [...asked, ["started", "true"]] : asked)}`;
  }

  ticket(): TicketOrder {
    if (this.traceIds.length === 0) return { started: true };
    return { trace_ids: [...this.traceIds], ...(this.started ? { started: true as const } : {}) };
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
    await this.receive({ ...data, event_type: frame.event, trace_id: String(data.trace_id ?? "") });
    return "go on";
  }
}

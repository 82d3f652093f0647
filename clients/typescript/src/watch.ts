/**
 * The gapless stream of one workflow: snapshot, then events, over as many connections as it takes.
 *
 * The position is the `seq` of the last event that was applied, kept here and sent as `Last-Event-ID`. What comes twice
 * is dropped by its `seq`; what is missing is fetched from the journal.
 */

import { type Calls, path } from "./calls.js";
import { Unexpected } from "./errors.js";
import type { Frame } from "./sse.js";
import { type Follower, follow, type StreamOptions, type TicketOrder, type Verdict } from "./stream.js";
import type { Page, Progress, WorkflowEvent, WorkflowState } from "./types.js";
import { Gap, NotAnEvent, WorkflowView } from "./view.js";

const PAGE = 1000;

/** The view was replaced as a whole: at the beginning, or where the server could not serve the position. */
export interface SnapshotEvent {
  event_type: "snapshot";
  trace_id: string;
  seq: number;
}

/** One step: what came, and the view after it. The view lives: the next step changes it. */
export interface Update {
  event: WorkflowEvent | SnapshotEvent;
  view: WorkflowView;
}

export interface WatchOptions extends StreamOptions {
  /**
   * Left out: begin with the snapshot of now. A number: every event with a greater `seq` comes exactly once, in order,
   * from the journal where the stream skipped it.
   */
  after?: number;
  /** What agents say while they work. It has no place in the order. */
  onProgress?: (progress: Progress) => void;
}

export type Receive = (update: Update) => void | Promise<void>;

/** Follows a workflow to its end; `receive` gets every step. Throws Problem for what waiting does not cure. */
export async function watchWorkflow(calls: Calls, traceId: string, options: WatchOptions, receive: Receive): Promise<void> {
  await follow(calls, new Watcher(calls, traceId, options, receive), options);
}

class Watcher implements Follower {
  view: WorkflowView;

  constructor(
    readonly calls: Calls,
    readonly traceId: string,
    readonly options: WatchOptions,
    readonly receive: Receive,
  ) {
    this.view = new WorkflowView(traceId);
  }

  async begin(): Promise<Verdict> {
    const { after } = this.options;
    if (after === undefined) await this.#snapshot();
    else await this.#upTo(after);
    return this.view.ended ? "done" : "go on";
  }

  async #upTo(after: number): Promise<void> {
    while (this.view.cursor < after) {
      const events = (await this.#journal()).filter((event) => event.seq <= after);
      if (events.length === 0) return;
      this.view.applyAll(events);
    }
  }

  route(): string {
    return path("workflows", this.traceId, "events");
  }

  ticket(): TicketOrder {
    return { trace_id: this.traceId };
  }

  position(): string {
    return String(this.view.cursor);
  }

  async over(): Promise<Verdict> {
    await this.#catchUp();
    return this.view.ended ? "done" : "again";
  }

  async take(frame: Frame): Promise<Verdict> {
    switch (frame.event) {
      case "progress":
        this.options.onProgress?.(object(frame.data) as unknown as Progress);
        return "go on";
      case "snapshot":
        await this.#taken(object(frame.data) as unknown as WorkflowState);
        break;
      case "end":
        if (!this.view.ended) await this.#catchUp();
        return this.view.ended ? "done" : "again";
      default:
        await this.#event(object(frame.data) as WorkflowEvent);
    }
    return this.view.ended ? "done" : "go on";
  }

  async #event(event: WorkflowEvent): Promise<void> {
    try {
      return await this.#apply(event);
    } catch (error) {
      if (!(error instanceof Gap)) throw error;
    }
    await this.#fromJournal();
    try {
      await this.#apply(event);
    } catch (error) {
      if (!(error instanceof Gap)) throw error;
      await this.#snapshot();
    }
  }

  async #taken(state: WorkflowState): Promise<void> {
    const cursor = Number(state.cursor);
    if (this.options.after !== undefined && cursor > this.view.cursor) {
      await this.#fromJournal();
      if (this.view.cursor >= cursor) return;
    }
    // Where every event is asked for, an older state has nothing: what follows it was given already.
    const wanted = this.options.after === undefined ? cursor !== this.view.cursor : cursor > this.view.cursor;
    if (wanted) await this.#replace(state);
  }

  async #catchUp(): Promise<void> {
    await this.#fromJournal();
    if (!this.view.ended) await this.#snapshot();
  }

  async #fromJournal(): Promise<void> {
    for (;;) {
      const events = await this.#journal();
      try {
        for (const event of events) await this.#apply(event);
      } catch (error) {
        if (error instanceof Gap) return; // the beginning was archived: the snapshot has it
        throw error;
      }
      if (events.length < PAGE) return;
    }
  }

  async #journal(): Promise<WorkflowEvent[]> {
    const query = { after: this.view.cursor, limit: PAGE };
    const route = path("workflows", this.traceId, "journal");
    return (await this.calls.get<Page<WorkflowEvent>>(route, query, { signal: this.options.signal })).items;
  }

  async #snapshot(): Promise<void> {
    const route = path("workflows", this.traceId, "state");
    await this.#replace(await this.calls.get<WorkflowState>(route, {}, { signal: this.options.signal }));
  }

  async #replace(state: WorkflowState): Promise<void> {
    this.view = understood(() => WorkflowView.fromState(state));
    const event: SnapshotEvent = { event_type: "snapshot", trace_id: this.traceId, seq: this.view.cursor };
    await this.receive({ event, view: this.view });
  }

  async #apply(event: WorkflowEvent): Promise<void> {
    if (understood(() => this.view.apply(event))) await this.receive({ event, view: this.view });
  }
}

function understood<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof NotAnEvent) throw new Unexpected(error.message, { cause: error });
    throw error;
  }
}

export function object(data: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch (error) {
    throw new Unexpected("Expected JSON in a frame of the stream, but the data is not JSON.", { cause: error });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new Unexpected("Expected a JSON object in a frame of the stream, but the data is not one.");
  }
  return value as Record<string, unknown>;
}

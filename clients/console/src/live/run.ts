/**
 * One workflow, live: its view, every event of it, how the connection stands.
 *
 * The view comes from the client's one reducer. Events that were before the first snapshot are fetched from the journal
 * once; later ones come with the stream. Notices are held back to one per frame.
 */

import type { Client, Connection, Progress, WorkflowEvent, WorkflowState } from "@handrail/client";
import { createStore, type StoreApi } from "zustand/vanilla";
import { client } from "./client.js";

export interface Run {
  traceId: string;
  state: WorkflowState | null;
  /** Oldest first, by `seq`, without holes from `events[0]` on. */
  events: readonly WorkflowEvent[];
  /** False while older events are still being fetched, or where there are too many of them. */
  whole: boolean;
  connection: Connection;
  error: Error | null;
  progress: Readonly<Record<string, Progress>>;
  /** When something was heard last, by the clock of this browser. */
  heardAt: number;
}

const FRAME_MS = 16;
const PAGE = 1000;
/** Longer histories are shown from their newest events on. */
const MOST = 20_000;

export class RunFeed {
  readonly store: StoreApi<Run>;
  #next: Partial<Run> = {};
  #notice: ReturnType<typeof setTimeout> | null = null;
  #abort: AbortController | null = null;
  #users = 0;
  #events: WorkflowEvent[] = [];
  #waiting: WorkflowEvent[] = [];
  #heardAt = Date.now();

  constructor(
    readonly traceId: string,
    readonly api: Client = client,
  ) {
    this.store = createStore<Run>(() => ({
      traceId,
      state: null,
      events: [],
      whole: false,
      connection: { state: "connecting", attempt: 0, delayMs: 0, reason: "" },
      error: null,
      progress: {},
      heardAt: Date.now(),
    }));
  }

  /** Not part of the notices: it changes with every ping. */
  get heardAt(): number {
    return this.#heardAt;
  }

  hold(): () => void {
    this.#users += 1;
    if (this.#abort === null) this.#connect();
    return () => {
      this.#users -= 1;
      setTimeout(() => {
        if (this.#users === 0) this.#release();
      }, 0);
    };
  }

  /** Reads the state anew and goes on from there. */
  again(): void {
    this.#release();
    this.#connect();
  }

  #connect(): void {
    const abort = new AbortController();
    this.#abort = abort;
    this.#follow(abort.signal).catch((error: unknown) => {
      if (abort.signal.aborted) return;
      const told = error instanceof Error ? error : new Error(String(error));
      this.#change({ error: told, connection: { state: "closed", attempt: 0, delayMs: 0, reason: told.message } });
    });
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const options = {
      signal,
      onConnection: (connection: Connection) => signal.aborted || this.#change({ connection }),
      onHeard: () => {
        this.#heardAt = Date.now();
      },
      onProgress: (said: Progress) =>
        this.#change({ progress: { ...(this.#next.progress ?? this.store.getState().progress), [said.node_id]: said } }),
    };
    for await (const { event, view } of this.api.watch(this.traceId, options)) {
      this.#heardAt = Date.now();
      if (event.event_type === "snapshot") void this.#fill(event.seq, signal);
      else this.#add(event as WorkflowEvent);
      this.#change({ state: view.state(), error: null });
      if (view.ended) this.#change({ connection: { state: "closed", attempt: 0, delayMs: 0, reason: "" } });
    }
  }

  #add(event: WorkflowEvent): void {
    const last = this.#events.at(-1);
    if (last !== undefined && event.seq !== last.seq + 1) {
      this.#waiting.push(event); // a hole, after a new snapshot: it is being filled
      return;
    }
    this.#events.push(event);
    this.#change({ events: this.#events });
  }

  /** Fetches what lies before a snapshot and is not here yet. */
  async #fill(upTo: number, signal: AbortSignal): Promise<void> {
    const have = this.#events.at(-1)?.seq ?? 0;
    let after = have > 0 ? have : Math.max(0, upTo - MOST);
    const from = after;
    const older: WorkflowEvent[] = [];
    try {
      while (after < upTo) {
        const { items } = await this.api.journal(this.traceId, { after, limit: PAGE, signal });
        if (items.length === 0) break;
        older.push(...items);
        after = items.at(-1)?.seq ?? upTo;
      }
    } catch {
      return; // the state is shown all the same; the next snapshot tries again
    }
    const known = new Map([...this.#events, ...this.#waiting.splice(0)].map((event) => [event.seq, event]));
    for (const event of older) known.set(event.seq, event);
    this.#events = dense([...known.values()].sort((a, b) => a.seq - b.seq));
    this.#change({ events: this.#events, whole: have > 0 ? this.store.getState().whole : from === 0 });
  }

  #change(next: Partial<Run>): void {
    Object.assign(this.#next, next);
    this.#notice ??= setTimeout(() => this.#tell(), FRAME_MS);
  }

  #tell(): void {
    this.#notice = null;
    const next = this.#next;
    this.#next = {};
    if (next.events) next.events = next.events.slice();
    this.store.setState({ ...next, heardAt: this.#heardAt });
  }

  #release(): void {
    this.#abort?.abort();
    this.#abort = null;
    if (this.#notice !== null) clearTimeout(this.#notice);
    this.#notice = null;
  }
}

/** The longest run without holes at the end. */
function dense(events: WorkflowEvent[]): WorkflowEvent[] {
  let start = events.length - 1;
  while (start > 0 && events[start - 1]?.seq === (events[start]?.seq ?? 0) - 1) start -= 1;
  return events.slice(Math.max(0, start));
}

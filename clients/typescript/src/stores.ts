/** Live things to subscribe to: connect with the first subscriber, let go with the last, one notice per screen frame. */

import type { Calls } from "./calls.js";
import { type Inbox, watchInbox } from "./inbox.js";
import type { Connection, StreamOptions } from "./stream.js";
import type { Progress, WorkflowState } from "./types.js";
import { watchWorkflow } from "./watch.js";

/** What a subscriber sees. A new object per change, so that it may be compared by reference. */
export interface LiveWorkflow {
  /** Null until the first snapshot. */
  state: WorkflowState | null;
  connection: Connection;
  /** What made it stop for good: `workflow-not-found` … */
  error: Error | null;
  /** Node id -> the newest that its agent said. */
  progress: Readonly<Record<string, Progress>>;
}

export interface LiveInbox {
  inbox: Inbox | null;
  connection: Connection;
  error: Error | null;
}

const CONNECTING: Connection = { state: "connecting", attempt: 0, delayMs: 0, reason: "" };
/** Not requestAnimationFrame: that sleeps in hidden tabs, where titles and badges still want to be right. */
const FRAME_MS = 16;

abstract class Store<T> {
  #listeners: Set<() => void> = new Set();
  #abort: AbortController | null = null;
  #notice: ReturnType<typeof setTimeout> | null = null;
  #shown: T;

  protected constructor(protected current: T) {
    this.#shown = current;
  }

  /** Calls back after every change until the returned function is called. */
  subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    if (this.#abort === null) this.#connect();
    return () => {
      this.#listeners.delete(listener);
      // A moment later: user interfaces unsubscribe and subscribe again in one breath.
      setTimeout(() => {
        if (this.#listeners.size === 0) this.#disconnect();
      }, 0);
    };
  };

  /** What there is now. The same object until the next notice. */
  getSnapshot = (): T => this.#shown;

  protected abstract run(options: Required<Pick<StreamOptions, "signal">>): Promise<void>;
  protected abstract failed(error: Error): T;

  protected change(next: T): void {
    this.current = next;
    this.#notice ??= setTimeout(() => this.#tell(), FRAME_MS);
  }

  #tell(): void {
    this.#notice = null;
    this.#shown = this.current;
    for (const listener of [...this.#listeners]) listener();
  }

  #connect(): void {
    const abort = new AbortController();
    this.#abort = abort;
    this.run({ signal: abort.signal }).catch((error: unknown) => {
      if (!abort.signal.aborted) this.change(this.failed(error instanceof Error ? error : new Error(String(error))));
    });
  }

  #disconnect(): void {
    this.#abort?.abort();
    this.#abort = null;
    if (this.#notice !== null) clearTimeout(this.#notice);
    this.#notice = null;
  }
}

export class WorkflowStore extends Store<LiveWorkflow> {
  constructor(
    readonly calls: Calls,
    readonly traceId: string,
  ) {
    super({ state: null, connection: CONNECTING, error: null, progress: {} });
  }

  protected async run(options: { signal: AbortSignal }): Promise<void> {
    await watchWorkflow(
      this.calls,
      this.traceId,
      {
        ...options,
        onConnection: (connection) => options.signal.aborted || this.change({ ...this.current, connection }),
        onProgress: (said) =>
          this.change({ ...this.current, progress: { ...this.current.progress, [said.node_id]: said } }),
      },
      ({ view }) => {
        const connection: Connection = view.ended ? { ...CONNECTING, state: "closed" } : this.current.connection;
        this.change({ ...this.current, state: view.state(), connection, error: null });
      },
    );
  }

  protected failed(error: Error): LiveWorkflow {
    return { ...this.current, error, connection: { ...CONNECTING, state: "closed", reason: error.message } };
  }
}

export class InboxStore extends Store<LiveInbox> {
  constructor(readonly calls: Calls) {
    super({ inbox: null, connection: CONNECTING, error: null });
  }

  protected async run(options: { signal: AbortSignal }): Promise<void> {
    const onConnection = (connection: Connection) => {
      if (!options.signal.aborted) this.change({ ...this.current, connection });
    };
    await watchInbox(this.calls, { ...options, onConnection }, (inbox) => {
      this.change({ ...this.current, inbox, error: null });
    });
  }

  protected failed(error: Error): LiveInbox {
    return { ...this.current, error, connection: { ...CONNECTING, state: "closed", reason: error.message } };
  }
}

/** One stream over as many connections as it takes: backoff with jitter, silence, and waking up with the tab. */

import { type Calls, pause, refusal } from "./calls.js";
import { ClientError, Problem, Unexpected, Unreachable } from "./errors.js";
import { type Frame, FrameParser } from "./sse.js";
import type { SseTicket } from "./types.js";

/** News of a connection: `live`, or `waiting` for `delayMs` before try number `attempt`, because of `reason`. */
export interface Connection {
  state: "connecting" | "live" | "waiting" | "closed";
  attempt: number;
  delayMs: number;
  reason: string;
}

export interface StreamOptions {
  signal?: AbortSignal | undefined;
  onConnection?: ((news: Connection) => void) | undefined;
  /** Something came, a ping at least: what is shown is as old as the last call of this. */
  onHeard?: (() => void) | undefined;
}

/** The server pings every 15 s; longer silence means that the connection is dead, whatever TCP believes. */
const SILENCE_MS = 40_000;
/** After a tab slept its timers were late: that much silence is enough to doubt the connection. */
const SUSPICIOUS_MS = 20_000;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 30_000;

/** What a stream does with a frame: go on, or close this connection (`again`) or the stream (`done`). */
export type Verdict = "go on" | "again" | "done";

/** Which one stream a ticket is ordered for. */
export type TicketOrder =
  | { trace_id: string }
  | { inbox: true }
  | { trace_ids: string[]; started?: true }
  | { label: string; started?: true }
  | { started: true };

export interface Follower {
  /** What must be read before the first connection. Tried as long as that one would be. `done`: nothing is left to follow. */
  begin?(): Promise<Verdict>;
  route(): string;
  /** What to order where the stream opens with a ticket only. */
  ticket(): TicketOrder;
  /** Sent as `Last-Event-ID`; null for none. */
  position(): string | null;
  /** A frame, in order. May take its time: nothing is read meanwhile. */
  take(frame: Frame): Promise<Verdict>;
  /** 204: it is over, and nothing is left behind this position. */
  over(): Promise<Verdict>;
}

/** Connects, and connects again, until the follower is done. Throws what waiting does not cure, and the signal's reason. */
export async function follow(calls: Calls, follower: Follower, options: StreamOptions): Promise<void> {
  const tell = options.onConnection ?? (() => {});
  const waker = new Waker();
  let failures = 0;
  let baseMs = FIRST_RETRY_MS;
  let ticketed = false;
  let begun = follower.begin === undefined;
  try {
    for (;;) {
      let floorMs = 0;
      let reason = "the server closed the stream";
      const connection = new OneConnection(calls, follower, waker, options, ticketed);
      try {
        if (!begun && (await follower.begin?.()) === "done") return;
        begun = true;
        const verdict = await connection.run(() => tell({ state: "live", attempt: 0, delayMs: 0, reason: "" }));
        if (verdict === "done") return;
      } catch (error) {
        if (!ticketed && error instanceof Problem && error.code === "ticket-required") {
          ticketed = true;
          continue;
        }
        // One that was spent or came too late is ordered anew.
        const again = error instanceof Problem && error.code === "ticket-invalid" && ticketed;
        if (!(error instanceof ClientError) || !(error.retriable || again || isServerFault(error))) throw error;
        if (error instanceof Unreachable) reason = error.reason;
        if (error instanceof Problem) {
          reason = error.detail;
          floorMs = (error.retryAfter ?? 0) * 1000;
        }
      }
      if (connection.heard) failures = 0;
      baseMs = connection.retryMs ?? baseMs;
      const backoff = Math.min(baseMs * 2 ** Math.min(failures, 10), LONGEST_RETRY_MS);
      const delayMs = floorMs + backoff * (0.5 + Math.random() / 2);
      failures += 1;
      tell({ state: "waiting", attempt: failures, delayMs, reason });
      await pause(delayMs, options.signal, (wake) => waker.listen(wake));
    }
  } finally {
    waker.close();
    tell({ state: "closed", attempt: 0, delayMs: 0, reason: "" });
  }
}

/** Reading changes nothing: what a server could not do now may be asked of it again. */
const isServerFault = (error: ClientError): boolean => error instanceof Problem && error.status >= 500;

class OneConnection {
  /** Something came that only a working server sends. */
  heard = false;
  retryMs: number | null = null;
  readonly #abort = new AbortController();
  #dead = false;
  #last = Date.now();

  constructor(
    readonly calls: Calls,
    readonly follower: Follower,
    readonly waker: Waker,
    readonly options: StreamOptions,
    readonly ticketed: boolean,
  ) {}

  async run(live: () => void): Promise<Verdict> {
    const stop = () => this.#abort.abort(this.options.signal?.reason);
    if (this.options.signal?.aborted) stop();
    this.options.signal?.addEventListener("abort", stop, { once: true });
    const watch = setInterval(() => this.#doubt(SILENCE_MS), SILENCE_MS / 4);
    const unwake = this.waker.listen(() => this.#doubt(SUSPICIOUS_MS));
    try {
      return await this.#read(live);
    } catch (error) {
      if (this.options.signal?.aborted) throw this.options.signal.reason;
      if (this.#dead) throw new Unreachable(this.calls.options.url, "the connection was silent for too long");
      if (error instanceof ClientError) throw error;
      if (error instanceof TypeError || error instanceof DOMException) {
        throw new Unreachable(this.calls.options.url, "the connection broke", { cause: error });
      }
      throw error;
    } finally {
      clearInterval(watch);
      unwake();
      this.options.signal?.removeEventListener("abort", stop);
      this.#abort.abort();
    }
  }

  async #read(live: () => void): Promise<Verdict> {
    const headers: Record<string, string> = { accept: "text/event-stream" };
    const position = this.follower.position();
    if (position !== null) headers["last-event-id"] = position;
    const init: RequestInit = { headers, signal: this.#abort.signal, cache: "no-store" };
    const response = await this.calls.open(await this.#route(), init);
    if (response.status === 204) return await this.follower.over();
    if (response.status !== 200) throw await refusal(response);
    if (!response.headers.get("content-type")?.startsWith("text/event-stream") || response.body === null) {
      throw new Unexpected(`Expected an event stream from ${response.url}, but the answer is not one.`);
    }
    live();
    const frames: Frame[] = [];
    const parser = new FrameParser({
      frame: (frame) => frames.push(frame),
      retry: (ms) => {
        this.retryMs = ms;
      },
    });
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return "again";
      this.#last = Date.now();
      this.options.onHeard?.();
      parser.feed(decoder.decode(value, { stream: true }));
      for (const frame of frames.splice(0)) {
        const verdict = await this.#take(frame);
        if (verdict !== "go on") return verdict;
      }
    }
  }

  /** A ticket opens one connection; the position goes on as a header. */
  async #route(): Promise<string> {
    if (!this.ticketed) return this.follower.route();
    const per = { signal: this.#abort.signal };
    return (await this.calls.post<SseTicket>("/sse-tickets", this.follower.ticket(), per)).url;
  }

  async #take(frame: Frame): Promise<Verdict> {
    if (frame.event === "bye") return "again";
    if (frame.event === "reset" || frame.event === "message") return "go on";
    this.heard = true;
    return frame.event === "ping" ? "go on" : await this.follower.take(frame);
  }

  #doubt(limitMs: number): void {
    if (Date.now() - this.#last < limitMs) return;
    this.#dead = true;
    this.#abort.abort();
  }
}

/** Tells when a tab comes back to the front or the network comes back. Does nothing outside of browsers. */
class Waker {
  readonly #listeners = new Set<() => void>();
  readonly #wake = () => {
    if (typeof document !== "undefined" && document.visibilityState === "hidden") return;
    for (const listener of [...this.#listeners]) listener();
  };

  constructor() {
    globalThis.document?.addEventListener?.("visibilitychange", this.#wake);
    globalThis.addEventListener?.("online", this.#wake);
    globalThis.addEventListener?.("pageshow", this.#wake);
  }

  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    globalThis.document?.removeEventListener?.("visibilitychange", this.#wake);
    globalThis.removeEventListener?.("online", this.#wake);
    globalThis.removeEventListener?.("pageshow", this.#wake);
    this.#listeners.clear();
  }
}

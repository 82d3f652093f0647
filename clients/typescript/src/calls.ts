/** One logical call to Handrail over HTTP: repeated on a broken connection under one idempotency key, problems thrown. */

import { Problem, Unexpected, Unreachable } from "./errors.js";
import type { ProblemBody } from "./types.js";

export type Query = Record<string, string | number | boolean | readonly string[] | null | undefined>;

export interface CallOptions {
  url: string;
  headers: () => Record<string, string>;
  timeoutMs: number;
  retries: number;
  fetch: typeof fetch;
}

export interface PerCall {
  signal?: AbortSignal | undefined;
  /** The same key, the same effect: however often it is sent, it happens once. Drawn where it is left out. */
  idempotencyKey?: string | undefined;
}

const FIRST_DELAY_MS = 100;
const LONGEST_DELAY_MS = 10_000;

/** `/a/b`, each part escaped, so that no id can reach another route. */
export function path(...parts: string[]): string {
  return parts.map((part) => `/${encodeURIComponent(part)}`).join("");
}

export class Calls {
  constructor(readonly options: CallOptions) {}

  get<T>(route: string, query: Query = {}, per: PerCall = {}): Promise<T> {
    return this.#call<T>("GET", route + search(query), undefined, per);
  }

  post<T>(route: string, body: unknown, per: PerCall = {}): Promise<T> {
    return this.#call<T>("POST", route, JSON.stringify(body ?? {}), per);
  }

  /** The lines of an NDJSON answer as they come. One try. Throws Problem, Unreachable. */
  async *lines<T>(route: string, query: Query = {}, per: PerCall = {}): AsyncGenerator<T, void, undefined> {
    const response = await this.open(route + search(query), per.signal ? { signal: per.signal } : {});
    if (!response.ok) throw await refusal(response);
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    const decoder = new TextDecoder();
    let rest = "";
    try {
      for (;;) {
        const { done, value } = await this.#piece(reader, per.signal);
        const lines = (rest + (done ? decoder.decode() : decoder.decode(value, { stream: true }))).split("\n");
        rest = lines.pop() ?? "";
        for (const line of done ? [...lines, rest] : lines) if (line) yield JSON.parse(line) as T;
        if (done) return;
      }
    } finally {
      await reader.cancel().catch(() => {});
    }
  }

  async #piece(reader: ReadableStreamDefaultReader<Uint8Array>, signal: AbortSignal | undefined) {
    try {
      return await reader.read();
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Unreachable(this.options.url, "the connection broke", { cause: error });
    }
  }

  /** One try, whatever its status; the caller reads and lets go of the body. Throws Unreachable when nobody answers. */
  async open(route: string, init: RequestInit): Promise<Response> {
    const { url, headers } = this.options;
    try {
      return await this.options.fetch(url + route, { ...init, headers: { ...headers(), ...(init.headers as object) } });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new Unreachable(url, "connection refused, or the network is down", { cause: error });
    }
  }

  async #call<T>(method: string, route: string, body: string | undefined, per: PerCall): Promise<T> {
    const headers: Record<string, string> = {};
    if (body !== undefined) {
      headers["content-type"] = "application/json";
      headers["idempotency-key"] = per.idempotencyKey ?? randomKey();
    }
    for (let tried = 0; ; tried++) {
      let failure: Problem | Unreachable | Unexpected;
      try {
        return await this.#once<T>(method, route, body, headers, per.signal);
      } catch (error) {
        if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
        failure = error;
      }
      if (!failure.retriable || tried >= this.options.retries) throw failure;
      await pause(delay(tried, failure), per.signal);
    }
  }

  async #once<T>(
    method: string,
    route: string,
    body: string | undefined,
    headers: Record<string, string>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const timeout = AbortSignal.timeout(this.options.timeoutMs);
    const either = signal === undefined ? timeout : AbortSignal.any([timeout, signal]);
    try {
      const response = await this.open(route, { method, headers, signal: either, ...(body === undefined ? {} : { body }) });
      if (!response.ok) throw await refusal(response);
      return (await json(response)) as T;
    } catch (error) {
      if (timeout.aborted && !signal?.aborted) throw new Unreachable(this.options.url, "no answer in time", { cause: error });
      if (error instanceof TypeError && !signal?.aborted) {
        throw new Unreachable(this.options.url, "the connection broke", { cause: error });
      }
      throw error;
    }
  }
}

/** What a status other than 2xx means. Reads the body. */
export async function refusal(response: Response): Promise<Problem | Unexpected> {
  const kind = (response.headers.get("content-type") ?? "").split(";")[0]?.trim();
  if (kind !== "application/problem+json") {
    await response.body?.cancel();
    if ([502, 503, 504].includes(response.status)) {
      const detail = `A proxy answered ${response.status}: what stands behind it is not up. Try again in a moment.`;
      return new Problem(response.status, { type: "/problems/unavailable", detail });
    }
    const found = `status ${response.status}, ${kind || "no content type"}`;
    return new Unexpected(`Expected Handrail at ${response.url}, but what answered is not Handrail: ${found}.`);
  }
  const body = (await json(response)) as Partial<ProblemBody>;
  const after = Number(response.headers.get("retry-after") ?? Number.NaN);
  if (body.retry_after == null && Number.isFinite(after)) body.retry_after = after;
  return new Problem(response.status, body);
}

/**
 * Waits so long, or until what `listen` listens to comes first. Throws the signal's reason when it is aborted meanwhile.
 */
export function pause(ms: number, signal?: AbortSignal, listen?: (wake: () => void) => () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const settle = (how: () => void) => () => {
      clearTimeout(timer);
      unlisten?.();
      signal?.removeEventListener("abort", stop);
      how();
    };
    const done = settle(resolve);
    const stop = settle(() => reject(signal?.reason));
    const timer = setTimeout(done, ms);
    const unlisten = listen?.(done);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

function search(query: Query): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) params.append(name, String(one));
  }
  const text = params.toString();
  return text ? `?${text}` : "";
}

async function json(response: Response): Promise<unknown> {
  const text = await response.text();
  if (!text) return null;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Unexpected(`Expected JSON from ${response.url}, but the answer is not JSON.`, { cause: error });
  }
}

function delay(tried: number, failure: Problem | Unreachable | Unexpected): number {
  const jittered = Math.min(FIRST_DELAY_MS * 2 ** tried, LONGEST_DELAY_MS) * (0.5 + Math.random() / 2);
  const asked = failure instanceof Problem && failure.retryAfter !== null ? failure.retryAfter * 1000 : 0;
  return Math.min(asked, LONGEST_DELAY_MS) + jittered;
}

// Not randomUUID: browsers have that on secure origins only.
function randomKey(): string {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
}

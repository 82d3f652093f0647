/**
 * What can go wrong between a client and Handrail.
 *
 *     ClientError
 *     ├── Problem        Handrail refused: an RFC 9457 problem with `code`, `detail`, `errors`
 *     ├── Unreachable    nobody answered, also not on the repeats
 *     └── Unexpected     something answered, but not as Handrail does
 *
 * `retriable` tells whether the same call may succeed a moment later.
 */

import type { FieldProblem, ProblemBody } from "./types.js";

const PASSING: ReadonlySet<string> = new Set([
  "request-in-progress",
  "too-many-requests",
  "overloaded",
  "unavailable",
  "storage-full",
]);

export class ClientError extends Error {
  readonly retriable: boolean = false;
}

export class Unreachable extends ClientError {
  override readonly retriable = true;
  constructor(
    readonly url: string,
    readonly reason: string,
    options?: ErrorOptions,
  ) {
    super(`Expected Handrail at ${url}, but it does not answer: ${reason}.`, options);
    this.name = "Unreachable";
  }
}

export class Unexpected extends ClientError {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "Unexpected";
  }
}

/** Handrail refused. `code` is the word to branch on, `detail` the sentence to show; further members are in `body`. */
export class Problem extends ClientError {
  readonly code: string;
  readonly detail: string;
  readonly errors: readonly FieldProblem[];
  readonly trace_id: string | null;
  /** Seconds. */
  readonly retryAfter: number | null;
  override readonly retriable: boolean;

  constructor(
    readonly status: number,
    readonly body: Partial<ProblemBody>,
  ) {
    const code = String(body.type ?? "").split("/").pop() || "internal";
    const detail = body.detail || body.title || `status ${status}`;
    super(`${code}: ${detail}`);
    this.name = "Problem";
    this.code = code;
    this.detail = detail;
    this.errors = Array.isArray(body.errors) ? body.errors : [];
    this.trace_id = body.trace_id ?? null;
    this.retryAfter = typeof body.retry_after === "number" && body.retry_after >= 0 ? body.retry_after : null;
    this.retriable = PASSING.has(code) || [429, 502, 503, 504].includes(status);
  }
}

/** `Client`: the public HTTP API of one Handrail, typed. Every ordering call happens once or not at all. */

import { Bench } from "./bench.js";
import { type BundleNews, type BundleOptions, watchBundle } from "./bundle.js";
import { Calls, type PerCall, path } from "./calls.js";
import { channel } from "./channel.js";
import { Desk } from "./desk.js";
import { type Inbox, watchInbox } from "./inbox.js";
import { InboxStore, WorkflowStore } from "./stores.js";
import type { StreamOptions, TicketOrder } from "./stream.js";
import type {
  Accepted,
  Agent,
  Blueprint,
  Claimed,
  DeadLetter,
  InboxPause,
  Json,
  Ordered,
  Page,
  PauseKind,
  Plan,
  NodeInputs,
  Preview,
  QuarantinedRecord,
  Resuming,
  Spending,
  SseTicket,
  WorkflowEvent,
  WorkflowState,
  WorkflowStatus,
  WorkflowSummary,
} from "./types.js";
import type { WorkflowView } from "./view.js";
import { type Update, type WatchOptions, watchWorkflow } from "./watch.js";

export interface ClientOptions {
  /** The origin. Default: that of the page; outside of browsers http://127.0.0.1:8080. */
  url?: string;
  /** Who acts; recorded with every decision. */
  actor?: string;
  /** Through what: `api`, `console` … */
  channel?: string;
  /** Of each single try. Default 30 s. */
  timeoutMs?: number;
  /** Repeats after a broken connection or shed load. Default 4. */
  retries?: number;
  /** Further headers, asked for before each request. */
  headers?: () => Record<string, string>;
  fetch?: typeof fetch;
}

export interface StartRequest {
  intent?: string;
  blueprint?: string;
  input?: Record<string, Json>;
  plan?: Plan;
  trace_id?: string;
  labels?: Record<string, string>;
  deadline_s?: number;
}

export interface ResumeRequest {
  action_id: string;
  /** Left out: the button asks for none. */
  input?: Json;
  /** Left out: the only open pause. */
  pause_id?: string;
  comment?: string;
  /** That of the pause which was looked at: a decision on changed evidence is refused. */
  evidence_digest?: string;
  override_claim?: boolean;
}

export interface Paging {
  limit?: number;
  cursor?: string | null;
}

export interface WorkflowFilter extends Paging {
  status?: readonly WorkflowStatus[];
  blueprint?: string;
  labels?: Record<string, string>;
  /** Text of the intent, from the beginning of a word on, or how a trace id begins. */
  q?: string;
}

export interface InboxFilter extends Paging {
  state?: "open" | "mine" | "resolved";
  kind?: readonly PauseKind[];
  agent?: string;
  error_code?: string;
  blueprint?: string;
  trace_id?: string;
  q?: string;
}

const DEFAULT_URL = "http://127.0.0.1:8080";

export class Client extends Desk {
  readonly #calls: Calls;
  /** Exists only under `handrail up`. */
  readonly bench: Bench;

  constructor(options: ClientOptions = {}) {
    const calls = callsOf(options);
    super(calls);
    this.#calls = calls;
    this.bench = new Bench(calls);
  }

  get url(): string {
    return this.#calls.options.url;
  }

  /** Starts a workflow; when this resolves it is durable. At least one of intent, blueprint, plan. */
  start(request: StartRequest, per?: PerCall): Promise<Accepted> {
    return this.#calls.post("/workflows", request, per);
  }

  /** Workflows, newest first. */
  list(filter: WorkflowFilter = {}, per?: PerCall): Promise<Page<WorkflowSummary>> {
    const { status, labels, ...rest } = filter;
    const label = Object.entries(labels ?? {}).map(([name, value]) => `${name}:${value}`);
    return this.#calls.get("/workflows", { ...rest, status: status?.join(","), label }, per);
  }

  /** The snapshot with its cursor; with `history` also the newest 1,000 events. */
  state(traceId: string, options: { history?: boolean } & PerCall = {}): Promise<WorkflowState> {
    const { history, ...per } = options;
    return this.#calls.get(path("workflows", traceId, "state"), { history: history || undefined }, per);
  }

  /** Events with `seq` > `after`, oldest first, raw. */
  journal(traceId: string, options: { after?: number; limit?: number } & PerCall = {}): Promise<Page<WorkflowEvent>> {
    const { after = 0, limit, ...per } = options;
    return this.#calls.get(path("workflows", traceId, "journal"), { after, limit }, per);
  }

  /** Every event so far, oldest first, however many. */
  async *history(traceId: string, per: PerCall = {}): AsyncGenerator<WorkflowEvent, void, undefined> {
    for (let after = 0; ; ) {
      const found = await this.journal(traceId, { after, limit: 1000, ...per });
      yield* found.items;
      if (found.next_cursor === null || found.items.length === 0) return;
      after = found.items[found.items.length - 1]?.seq ?? after;
    }
  }

  /**
   * Every step of a workflow until it has ended; reconnects by itself, for ever, without a hole. Leave the loop, or
   * abort `signal`, to stop. Throws Problem (`workflow-not-found` …) where waiting does not help.
   */
  watch(traceId: string, options: WatchOptions = {}): AsyncGenerator<Update, void, undefined> {
    return channel<Update>(
      (receive, signal) => watchWorkflow(this.#calls, traceId, { ...options, signal }, receive),
      options.signal,
    );
  }

  /** The inbox, live: every state of it, until `signal` is aborted or the loop is left. */
  watchInbox(options: StreamOptions = {}): AsyncGenerator<Inbox, void, undefined> {
    return channel<Inbox>(
      (receive, signal) => watchInbox(this.#calls, { ...options, signal }, receive),
      options.signal,
    );
  }

  /**
   * A ticket for one stream: `new EventSource(client.url + ticket.url)`, once, within `expires_in_s`. `watch` and the
   * stores order their own where the server asks for tickets.
   */
  ticket(order: TicketOrder, per?: PerCall): Promise<SseTicket> {
    return this.#calls.post("/sse-tickets", order, per);
  }

  /** What happens to any of up to 100 workflows, on one connection; ends when all have. For lists, also of what is `started`. */
  watchMany(traceIds: readonly string[], options: BundleOptions = {}): AsyncGenerator<BundleNews, void, undefined> {
    return channel<BundleNews>(
      (receive, signal) => watchBundle(this.#calls, traceIds, { ...options, signal }, receive),
      options.signal,
    );
  }

  /** A workflow as something to subscribe to, for user interfaces. It connects with the first subscriber. */
  workflow(traceId: string): WorkflowStore {
    return new WorkflowStore(this.#calls, traceId);
  }

  /** The inbox as something to subscribe to. */
  liveInbox(): InboxStore {
    return new InboxStore(this.#calls);
  }

  /** Waits until it has ended (`paused`: or needs a person, whichever is first). */
  async wait(traceId: string, options: { until?: "ended" | "paused"; signal?: AbortSignal } = {}): Promise<WorkflowView> {
    for await (const { view } of this.watch(traceId, { signal: options.signal })) {
      if (view.ended || (options.until === "paused" && view.pauses.size > 0)) return view;
    }
    throw new Error("Expected a watch to end with the workflow, but it ended before.");
  }

  /** What a button would do, only what changes. */
  preview(traceId: string, pauseId: string, actionId: string, per?: PerCall): Promise<Preview> {
    return this.#calls.get(path("workflows", traceId, "pauses", pauseId, "preview", actionId), {}, per);
  }

  /** What `pause` would do, only what changes. */
  previewPause(traceId: string, per?: PerCall): Promise<Preview> {
    return this.#calls.get(path("workflows", traceId, "pause", "preview"), {}, per);
  }

  /** What `cancel` would do, only what changes. */
  previewCancel(traceId: string, request: { compensate?: boolean } = {}, per?: PerCall): Promise<Preview> {
    const compensate = request.compensate === false ? "false" : "true";
    return this.#calls.get(path("workflows", traceId, "cancel", "preview"), { compensate }, per);
  }

  /** What a node works with: its inputs, references resolved. */
  node(traceId: string, nodeId: string, per?: PerCall): Promise<NodeInputs> {
    return this.#calls.get(path("workflows", traceId, "nodes", nodeId), {}, per);
  }

  /** Presses a button of an open pause; when this resolves the decision is durable and will be applied exactly once. */
  resume(traceId: string, request: ResumeRequest, per?: PerCall): Promise<Resuming> {
    return this.#calls.post(path("workflows", traceId, "resume"), request, per);
  }

  /** The panic button: nothing new is dispatched until a person lets it go on, or aborts. */
  pause(traceId: string, request: { comment?: string } = {}, per?: PerCall): Promise<Ordered> {
    return this.#calls.post(path("workflows", traceId, "pause"), request, per);
  }

  /** Cancels; what was done is undone unless `compensate` is false. */
  cancel(traceId: string, request: { compensate?: boolean; comment?: string } = {}, per?: PerCall): Promise<Ordered> {
    return this.#calls.post(path("workflows", traceId, "cancel"), { compensate: true, ...request }, per);
  }

  /** Why it is not moving. */
  explain(
    traceId: string,
    per?: PerCall,
  ): Promise<{ sentence: string; status: string; facts: Record<string, Json>[]; spending?: Record<string, Spending> }> {
    return this.#calls.get(path("workflows", traceId, "explain"), {}, per);
  }

  /** Pauses over all workflows, newest first. */
  inbox(filter: InboxFilter = {}, per?: PerCall): Promise<Page<InboxPause>> {
    return this.#calls.get("/inbox", { ...filter, kind: filter.kind?.join(",") }, per);
  }

  /** One pause, open or closed, with its decision. */
  getPause(pauseId: string, per?: PerCall): Promise<InboxPause> {
    return this.#calls.get(path("pauses", pauseId), {}, per);
  }

  /** Takes a pause for so many seconds. Throws Problem `claimed` when somebody else has it. */
  claim(pauseId: string, seconds = 300, per?: PerCall): Promise<Claimed> {
    return this.#calls.post(path("pauses", pauseId, "claim"), { seconds }, per);
  }

  /** Gives a claim back. */
  release(pauseId: string, per?: PerCall): Promise<Claimed> {
    return this.#calls.post(path("pauses", pauseId, "release"), {}, per);
  }

  /** Adds to the conversation of an escalation. */
  say(pauseId: string, text: string, role: "operator" | "user" | "agent" = "operator", per?: PerCall): Promise<Ordered> {
    return this.#calls.post(path("pauses", pauseId, "messages"), { role, text }, per);
  }

  deadLetters(filter: Paging & { state?: string; agent?: string; trace_id?: string } = {}): Promise<Page<DeadLetter>> {
    return this.#calls.get("/dead-letters", { ...filter });
  }

  replayDeadLetter(id: string, request: { input?: Json; reason?: string } = {}, per?: PerCall): Promise<Ordered> {
    return this.#calls.post(path("dead-letters", id, "replay"), request, per);
  }

  discardDeadLetter(id: string, request: { reason?: string } = {}, per?: PerCall): Promise<Ordered> {
    return this.#calls.post(path("dead-letters", id, "discard"), request, per);
  }

  quarantine(filter: Paging & { state?: string; topic?: string } = {}): Promise<Page<QuarantinedRecord>> {
    return this.#calls.get("/quarantine", { ...filter });
  }

  replayQuarantined(id: number, request: { reason?: string } = {}, per?: PerCall): Promise<{ id: number; status: string }> {
    return this.#calls.post(path("quarantine", String(id), "replay"), request, per);
  }

  discardQuarantined(id: number, request: { reason?: string; give_up?: boolean; compensate?: boolean } = {}, per?: PerCall): Promise<{ id: number; status: string }> {
    return this.#calls.post(path("quarantine", String(id), "discard"), request, per);
  }

  /** That it lives; `dev` where it is a `handrail up` that only this machine reaches. */
  health(per?: PerCall): Promise<{ status: string; dev?: boolean }> {
    return this.#calls.get("/healthz", {}, per);
  }

  /** Whether every part works; answers also when one does not. */
  async ready(per: PerCall = {}): Promise<{ status: string; checks?: Record<string, Json> }> {
    const init: RequestInit = per.signal ? { signal: per.signal } : {};
    return (await this.#calls.open("/readyz", init)).json();
  }

  /** What can run. */
  blueprints(per?: PerCall): Promise<Page<Blueprint>> {
    return this.#calls.get("/blueprints", {}, per);
  }

  /** Who can work, and who is alive. */
  agents(per?: PerCall): Promise<Page<Agent>> {
    return this.#calls.get("/agents", {}, per);
  }
}

function callsOf(options: ClientOptions): Calls {
  const url = (options.url ?? ownOrigin() ?? DEFAULT_URL).replace(/\/+$/, "");
  const own: Record<string, string> = { "handrail-channel": options.channel ?? "api" };
  if (options.actor) own["handrail-actor"] = header(options.actor);
  return new Calls({
    url,
    headers: () => ({ ...own, ...options.headers?.() }),
    timeoutMs: options.timeoutMs ?? 30_000,
    retries: options.retries ?? 4,
    fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
  });
}

function ownOrigin(): string | null {
  const origin = globalThis.location?.origin;
  return origin && origin !== "null" ? origin : null;
}

function header(text: string): string {
  return /^[\x20-\x7e]*$/.test(text) ? text : encodeURIComponent(text);
}

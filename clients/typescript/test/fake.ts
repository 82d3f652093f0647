/**
 * A Handrail for the client to be tested against: it speaks CONTRACT sections 1 to 7 over a real socket and, on order,
 * misbehaves as networks and servers do. `scripts` holds how the next connections of the stream behave, one each.
 */

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type WorkflowEvent, WorkflowView } from "../src/index.js";

export interface Answer {
  status?: number;
  body?: unknown;
  /** NDJSON in place of a body. */
  lines?: unknown[];
  headers?: Record<string, string>;
  /** The request is taken in full, and the connection breaks before an answer. */
  cut?: boolean;
}

export interface Request {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: IncomingMessage["headers"];
  body: unknown;
}

export type Script = (fake: Fake, wire: ServerResponse, after: number) => Promise<void>;

const RETRY = "retry: 5\n\n";
const TERMINAL = /^WORKFLOW_(COMPLETED|COMPENSATED|COMPENSATION_INCOMPLETE|FAILED|CANCELLED)$/;

export class Fake {
  readonly requests: Request[] = [];
  readonly positions: (string | undefined)[] = [];
  readonly scripts: Script[] = [];
  readonly answers = new Map<string, Answer[]>();
  visible: number;
  open = 0;
  url = "";
  #server: Server;
  #waiting = new Set<() => void>();

  private constructor(readonly events: WorkflowEvent[], visible?: number) {
    this.visible = visible ?? events.length;
    this.#server = createServer((request, response) => void this.#serve(request, response));
  }

  static async start(events: WorkflowEvent[], visible?: number): Promise<Fake> {
    const fake = new Fake(events, visible);
    await new Promise<void>((ready) => fake.#server.listen(0, "127.0.0.1", ready));
    fake.url = `http://127.0.0.1:${(fake.#server.address() as AddressInfo).port}`;
    return fake;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  get traceId(): string {
    return String(this.events[0]?.trace_id);
  }

  get journal(): WorkflowEvent[] {
    return this.events.slice(0, this.visible);
  }

  get over(): boolean {
    return TERMINAL.test(this.journal.at(-1)?.event_type ?? "");
  }

  state() {
    return new WorkflowView(this.traceId).applyAll(this.journal).state();
  }

  publish(count = this.events.length): void {
    this.visible = Math.min(this.events.length, this.visible + count);
    for (const wake of [...this.#waiting]) wake();
  }

  answer(method: string, path: string, ...answers: Answer[]): void {
    this.answers.set(`${method} ${path}`, answers);
  }

  async follow(wire: ServerResponse, after: number): Promise<void> {
    let sent = after;
    for (;;) {
      for (const event of this.events.slice(sent, this.visible)) wire.write(frame(event));
      sent = Math.max(sent, this.visible);
      if (this.over) {
        wire.write("event: end\ndata: {}\n\n");
        wire.end();
        return;
      }
      await this.news(wire);
    }
  }

  /** Resolves when something was published; never when the client has gone. */
  news(wire: ServerResponse): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        this.#waiting.delete(wake);
        wire.off("close", gone);
        resolve();
      };
      const gone = () => this.#waiting.delete(wake);
      this.#waiting.add(wake);
      wire.on("close", gone);
    });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://fake");
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const text = Buffer.concat(pieces).toString();
    const path = decodeURIComponent(url.pathname);
    const body = text ? JSON.parse(text) : null;
    this.requests.push({ method: request.method ?? "", path, query: url.searchParams, headers: request.headers, body });
    const queued = this.answers.get(`${request.method} ${path}`);
    const answer = queued === undefined ? this.#own(url) : queued.length > 1 ? queued.shift() : queued[0];
    if (answer !== undefined) return send(response, answer);
    const position = request.headers["last-event-id"] as string | undefined;
    this.positions.push(position);
    this.open += 1;
    response.on("close", () => {
      this.open -= 1;
    });
    await (this.scripts.shift() ?? wellBehaved)(this, response, Number(position ?? 0));
  }

  #own(url: URL): Answer | undefined {
    const base = `/workflows/${this.traceId}`;
    if (url.pathname === `${base}/events`) return undefined;
    if (url.pathname === `${base}/state`) return { body: this.state() };
    if (url.pathname === `${base}/journal`) {
      const after = Number(url.searchParams.get("after"));
      const items = this.journal.slice(after, after + Number(url.searchParams.get("limit") ?? 200));
      return { body: { items, next_cursor: null } };
    }
    const detail = "Expected a workflow, but there is none of this id.";
    return { status: 404, body: { type: "/problems/workflow-not-found", title: "No such workflow", status: 404, detail } };
  }
}

function send(response: ServerResponse, answer: Answer): void {
  if (answer.cut) {
    response.destroy();
    return;
  }
  const status = answer.status ?? 200;
  const kind = status >= 400 ? "application/problem+json" : "application/json";
  response.writeHead(status, { "content-type": kind, ...answer.headers });
  if (answer.lines) return void response.end(answer.lines.map((line) => JSON.stringify(line)).join("\n"));
  response.end(answer.body === undefined ? "" : JSON.stringify(answer.body));
}

export function frame(event: WorkflowEvent): string {
  return `id: ${event.seq}\nevent: ${event.event_type}\ndata: ${JSON.stringify(event)}\n\n`;
}

export function head(wire: ServerResponse): void {
  wire.writeHead(200, { "content-type": "text/event-stream" });
  wire.write(RETRY);
}

export const wellBehaved: Script = async (fake, wire, after) => {
  if (fake.over && after >= fake.visible) {
    wire.writeHead(204);
    wire.end();
  } else if (after > fake.visible) {
    await trimmed(fake, wire, after);
  } else {
    head(wire);
    await fake.follow(wire, after);
  }
};

export const trimmed: Script = async (fake, wire) => {
  head(wire);
  wire.write(`event: reset\ndata: {"reason":"too-old","state":"/workflows/${fake.traceId}/state"}\n\n`);
  const at = fake.visible;
  wire.write(`id: ${at}\nevent: snapshot\ndata: ${JSON.stringify(fake.state())}\n\n`);
  await fake.follow(wire, at);
};

/** Reset and a snapshot of so many events before the position, and on from there: a server that is behind another. */
export const older =
  (back: number): Script =>
  async (fake, wire, after) => {
    const at = Math.max(0, after - back);
    const state = new WorkflowView(fake.traceId).applyAll(fake.events.slice(0, at)).state();
    head(wire);
    wire.write('event: reset\ndata: {"reason":"ahead-of-stream","state":"/x"}\n\n');
    wire.write(`id: ${at}\nevent: snapshot\ndata: ${JSON.stringify(state)}\n\n`);
    await fake.follow(wire, at);
  };

export const cutAfter =
  (count: number, half = false): Script =>
  async (fake, wire, after) => {
    head(wire);
    for (const event of fake.journal.slice(after, after + count)) wire.write(frame(event));
    const next = fake.journal[after + count];
    if (half && next !== undefined) wire.write(frame(next).slice(0, -20));
    setImmediate(() => wire.destroy());
  };

export const byeAfter =
  (count: number): Script =>
  async (fake, wire, after) => {
    head(wire);
    for (const event of fake.journal.slice(after, after + count)) wire.write(frame(event));
    wire.write("event: bye\nretry: 5\ndata: {}\n\n");
    wire.end();
  };

export const without =
  (...missing: number[]): Script =>
  async (fake, wire, after) => {
    head(wire);
    for (const event of fake.journal.slice(after)) if (!missing.includes(event.seq)) wire.write(frame(event));
    wire.end("event: end\ndata: {}\n\n");
  };

export const fromBefore =
  (back: number): Script =>
  async (fake, wire, after) => {
    head(wire);
    await fake.follow(wire, Math.max(0, after - back));
  };

export const refused =
  (status: number, code: string, headers: Record<string, string> = {}): Script =>
  async (_, wire) => {
    wire.writeHead(status, { "content-type": "application/problem+json", ...headers });
    wire.end(JSON.stringify({ type: `/problems/${code}`, title: "t", status, detail: "Not now." }));
  };

export const onlyEnd: Script = async (_, wire) => {
  head(wire);
  wire.end("event: end\ndata: {}\n\n");
};

/** What exists only under `handrail up`: the bus to look at and to try. Elsewhere each of these throws Problem `not-found`. */

import { type Calls, type PerCall, path } from "./calls.js";
import type { DevRecord, DevTopic, Json, Page } from "./types.js";

export class Bench {
  readonly #calls: Calls;

  constructor(calls: Calls) {
    this.#calls = calls;
  }

  /** Topics of the bus: what they carry, and how much of it. */
  topics(per?: PerCall): Promise<Page<DevTopic>> {
    return this.#calls.get("/dev/topics", {}, per);
  }

  /** The newest records of a topic, newest first. */
  records(topic: string, options: { limit?: number } & PerCall = {}): Promise<Page<DevRecord>> {
    const { limit, ...per } = options;
    return this.#calls.get(`${path("dev", "topics", topic)}/records`, { limit }, per);
  }

  /** Puts a record onto a topic as it is, also one that nobody can read. Sent twice, it is there twice. */
  send(
    topic: string,
    record: { text: string; key?: string; headers?: Record<string, string>; partition?: number },
  ): Promise<{ topic: string }> {
    return this.#calls.post(`${path("dev", "topics", topic)}/records`, record);
  }

  /** Any call of the API, once, with whatever status it answers. */
  async call(method: string, route: string, body?: Json): Promise<{ status: number; body: Json }> {
    const more = body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    const answer = await this.#calls.open(route, { method, ...more });
    const text = await answer.text();
    return { status: answer.status, body: parsed(text) };
  }
}

function parsed(text: string): Json {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

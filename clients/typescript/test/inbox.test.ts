import { afterEach, expect, test } from "vitest";
import { Client, type WorkflowEvent } from "../src/index.js";
import { Fake, head } from "./fake.js";

const at = "2026-11-20T09:00:00.000Z";
const pause = (pause_id: string, trace_id: string, more: object = {}) => ({
  event_type: "WORKFLOW_PAUSED_HITL", trace_id, seq: 5, at, pause_id, failure_reason: "r", available_resolutions: [], ...more,
});

let fake: Fake;
afterEach(() => fake.stop());

/** A server whose `/inbox/events` sends these frames on each connection, one list per connection, then stays open. */
function inboxOf(...connections: [string, object][][]): Promise<Client> {
  return served((url) => url.endsWith("/inbox/events"), connections);
}

async function served(meant: (url: string) => boolean, connections: [string, object][][]): Promise<Client> {
  fake = await Fake.start([]);
  const { url } = fake;
  const frames = connections.slice();
  const own = new Client({
    url,
    fetch: async (input, init) => {
      if (!meant(String(input))) return fetch(input, init);
      return await fetch(`${url}/workflows/undefined/events`, init);
    },
  });
  fake.scripts.push(
    ...frames.map((list, i) => async (_: Fake, wire: import("node:http").ServerResponse) => {
      head(wire);
      for (const [event, data] of list) wire.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
      if (i < frames.length - 1) wire.end();
    }),
  );
  return own;
}

async function states(client: Client, count: number): Promise<string[][]> {
  const seen: string[][] = [];
  for await (const inbox of client.watchInbox()) {
    seen.push(inbox.pauses.map((p) => `${p.pause_id}${p.claimed_by ? `:${p.claimed_by}` : ""}${p.transcript?.length ?? ""}`));
    if (seen.length === count) return seen;
  }
  return seen;
}

test("what opens, changes and closes is folded, newest first", async () => {
  const client = await inboxOf([
    ["snapshot", { items: [pause("p2", "b"), pause("p1", "a")], truncated: false }],
    ["ping", { at }],
    ["WORKFLOW_PAUSED_HITL", pause("p3", "c")],
    ["PAUSE_UPDATED", { trace_id: "a", seq: 6, at, pause_id: "p1", claimed_by: "ada" }],
    ["MESSAGE_ADDED", { trace_id: "b", seq: 6, at, pause_id: "p2", role: "user", text: "hi" }],
    ["HITL_RESOLVED", { trace_id: "a", seq: 7, at, pause_id: "p1" }],
    ["PAUSE_UPDATED", { trace_id: "z", seq: 7, at, pause_id: "unknown" }],
    ["WORKFLOW_CANCELLED", { trace_id: "b", seq: 9, at } satisfies Partial<WorkflowEvent>],
  ]);
  expect(await states(client, 6)).toEqual([
    ["p2", "p1"],
    ["p3", "p2", "p1"],
    ["p3", "p2", "p1:ada"],
    ["p3", "p21", "p1:ada"],
    ["p3", "p21"],
    ["p3"],
  ]);
});

test("a new connection begins with a new snapshot", async () => {
  const client = await inboxOf(
    [["snapshot", { items: [pause("p1", "a")] }]],
    [["snapshot", { items: [pause("p9", "z")], truncated: true }]],
  );
  expect(await states(client, 2)).toEqual([["p1"], ["p9"]]);
});

test("what closed a pause is told once, with the pause as it was", async () => {
  const client = await inboxOf([
    ["snapshot", { items: [pause("p2", "b"), pause("p1", "a")] }],
    ["HITL_RESOLVED", { event_type: "HITL_RESOLVED", trace_id: "a", seq: 7, at, pause_id: "p1", actor: "ada" }],
    ["WORKFLOW_PAUSED_HITL", pause("p3", "c")],
    ["WORKFLOW_CANCELLED", { event_type: "WORKFLOW_CANCELLED", trace_id: "b", seq: 9, at }],
  ]);
  const seen: [string, unknown][][] = [];
  for await (const { closed } of client.watchInbox()) {
    seen.push(closed.map(({ pause: was, event }) => [was.pause_id, event.actor ?? event.event_type]));
    if (seen.length === 4) break;
  }
  expect(seen).toEqual([[], [["p1", "ada"]], [], [["p2", "WORKFLOW_CANCELLED"]]]);
});

test("many workflows are followed on one connection, until all have ended", async () => {
  const asked: string[] = [];
  const client = await served(
    (url) => {
      asked.push(url);
      return url.includes("/events?");
    },
    [
      [
        ["snapshot", { trace_id: "a", cursor: "1" }],
        ["NODE_STATE_CHANGED", { trace_id: "b", seq: 4, at }],
        ["ping", { at }],
        ["progress", { trace_id: "b", node_id: "n" }],
        ["end", {}],
      ],
    ],
  );
  const seen: string[] = [];
  let heard = 0;
  for await (const news of client.watchMany(["a", "b"], { onHeard: () => (heard += 1) })) seen.push(`${news.trace_id} ${news.event_type}`);
  expect(seen).toEqual(["a snapshot", "b NODE_STATE_CHANGED"]);
  expect(asked[0]).toMatch(/\/events\?trace_id=a&trace_id=b$/);
  expect(heard).toBeGreaterThan(0);
});

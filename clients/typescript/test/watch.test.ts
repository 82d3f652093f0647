import { afterEach, describe, expect, test } from "vitest";
import { Client, type Connection, Problem, Unexpected, type Update, type WatchOptions, type WorkflowEvent, WorkflowView } from "../src/index.js";
import { canonical } from "./canonical.js";
import { byeAfter, cutAfter, Fake, fromBefore, head, older, onlyEnd, refused, type Script, trimmed, wellBehaved, without } from "./fake.js";
import { events } from "./recordings.js";

const STORY = events("onboarding-manual-sku");
const SCRIPTS: Record<string, Script> = {
  "well behaved": wellBehaved,
  "cut at once": cutAfter(0),
  "cut after 1": cutAfter(1),
  "cut inside of a frame": cutAfter(2, true),
  bye: byeAfter(3),
  hole: without(2, 5, 6),
  repeats: fromBefore(4),
  reset: trimmed,
  "only an end": onlyEnd,
};
const NAMES = Object.keys(SCRIPTS);
const final = canonical(new WorkflowView("manual").applyAll(STORY).state());

let fake: Fake;
afterEach(() => fake.stop());

async function watched(options: WatchOptions): Promise<{ seen: Update["event"][]; last: string }> {
  const seen: Update["event"][] = [];
  let last = "";
  for await (const { event, view } of new Client({ url: fake.url }).watch(fake.traceId, options)) {
    seen.push(event);
    last = canonical(view.state());
  }
  return { seen, last };
}

/** Every ordered pair of misbehaviours, and some longer runs. */
const RUNS: string[][] = [[], ...NAMES.map((a) => [a]), ...NAMES.flatMap((a) => NAMES.map((b) => [a, b])), NAMES, NAMES.slice().reverse()];

test.each(RUNS.map((run) => [run]))("whatever the network does (%j) every event comes once, in order", async (run) => {
  fake = await Fake.start(STORY);
  fake.scripts.push(...run.map((name) => SCRIPTS[name] as Script));
  const { seen, last } = await watched({ after: 0 });
  expect(seen).toEqual(STORY);
  expect(last).toBe(final);
});

test.each(RUNS.map((run) => [run]))("from a snapshot (%j) it ends with the state of the server", async (run) => {
  fake = await Fake.start(STORY, 7);
  fake.scripts.push(...run.map((name) => SCRIPTS[name] as Script));
  let newest = 0;
  let last = "";
  for await (const { event, view } of new Client({ url: fake.url }).watch(fake.traceId)) {
    fake.publish(1);
    if (event.event_type !== "snapshot") expect(event.seq).toBe(newest + 1);
    newest = Math.max(newest, event.seq);
    last = canonical(view.state());
  }
  expect(last).toBe(final);
});

test.each(NAMES)("a snapshot of before (after %s) repeats nothing where every event was asked for", async (name) => {
  fake = await Fake.start(STORY);
  fake.scripts.push(cutAfter(5), SCRIPTS[name] as Script, older(3), cutAfter(1), older(2));
  const { seen, last } = await watched({ after: 0 });
  expect(seen).toEqual(STORY);
  expect(last).toBe(final);
});

describe("positions", () => {
  test("the stream goes on from the snapshot's cursor", async () => {
    fake = await Fake.start(STORY, 4);
    const seen: Update["event"][] = [];
    for await (const { event } of new Client({ url: fake.url }).watch(fake.traceId)) {
      if (seen.length === 0) fake.publish();
      seen.push(event);
    }
    expect(seen[0]).toEqual({ event_type: "snapshot", trace_id: "manual", seq: 4 });
    expect(seen.slice(1)).toEqual(STORY.slice(4));
    expect(fake.positions).toEqual(["4"]);
  });

  test("after a cut it is the last event that came whole", async () => {
    fake = await Fake.start(STORY);
    fake.scripts.push(cutAfter(3), cutAfter(2, true));
    await watched({ after: 0 });
    expect(fake.positions).toEqual(["0", "3", "5"]);
  });

  test("an ended workflow is its snapshot and opens no stream", async () => {
    fake = await Fake.start(STORY);
    const { seen } = await watched({});
    expect(seen.map((event) => event.event_type)).toEqual(["snapshot"]);
    expect(fake.positions).toEqual([]);
  });

  test("a server that went back in time is believed", async () => {
    fake = await Fake.start(STORY, 8);
    const watching = new Client({ url: fake.url }).watch(fake.traceId);
    expect((await watching.next()).value?.view.cursor).toBe(8);
    fake.visible = 3;
    expect((await watching.next()).value?.event).toEqual({ event_type: "snapshot", trace_id: "manual", seq: 3 });
    fake.publish();
    const rest: number[] = [];
    for await (const { event } of watching) rest.push(event.seq);
    expect(rest).toEqual(STORY.slice(3).map((event) => event.seq));
  });
});

test("news of the connection are told", async () => {
  fake = await Fake.start(STORY);
  fake.scripts.push(cutAfter(1), refused(503, "overloaded", { "retry-after": "0" }));
  const news: Connection[] = [];
  await watched({ after: 0, onConnection: (connection) => news.push(connection) });
  expect(news.map((n) => n.state)).toEqual(["live", "waiting", "waiting", "live", "closed"]);
  expect(news[1]?.reason).toBe("the connection broke");
  expect(news[2]?.reason).toBe("Not now.");
});

test("progress is told beside the order", async () => {
  fake = await Fake.start(STORY);
  fake.scripts.push(async (server, wire) => {
    head(wire);
    wire.write('event: progress\ndata: {"node_id":"a","percent":40}\n\n');
    await server.follow(wire, 0);
  });
  const said: unknown[] = [];
  const { seen } = await watched({ after: 0, onProgress: (progress) => said.push(progress) });
  expect(said).toEqual([{ node_id: "a", percent: 40 }]);
  expect(seen).toEqual(STORY);
});

test("a workflow that is not there is a problem and not an endless wait", async () => {
  fake = await Fake.start(STORY);
  fake.answer("GET", "/workflows/nothing/events", {
    status: 404,
    body: { type: "/problems/workflow-not-found", status: 404, detail: "Not here." },
  });
  for (const options of [{}, { after: 0 }]) {
    const watching = new Client({ url: fake.url }).watch("nothing", options);
    const error = await watching.next().catch((e: unknown) => e);
    expect(error).toBeInstanceOf(Problem);
    expect((error as Problem).code).toBe("workflow-not-found");
  }
});

test("a server that is not there at first, or fails, is asked until it answers", async () => {
  fake = await Fake.start(STORY, 4);
  const internal = { status: 500, body: { type: "/problems/internal", status: 500, detail: "Not now." } };
  fake.answer("GET", `/workflows/${fake.traceId}/state`, internal, { body: fake.state() });
  let broken = 1;
  const flaky: typeof fetch = (input, init) => {
    if (broken > 0) {
      broken -= 1;
      return Promise.reject(new TypeError("down"));
    }
    return fetch(input, init);
  };
  const news: Connection[] = [];
  const client = new Client({ url: fake.url, retries: 0, fetch: flaky });
  const seen: Update["event"][] = [];
  for await (const { event } of client.watch(fake.traceId, { onConnection: (connection) => news.push(connection) })) {
    if (seen.length === 0) fake.publish();
    seen.push(event);
  }
  expect(seen.map((event) => event.seq)).toEqual([4, ...STORY.slice(4).map((event) => event.seq)]);
  expect(news.slice(0, 3).map((n) => [n.state, n.attempt])).toEqual([["waiting", 1], ["waiting", 2], ["live", 0]]);
  expect(news[1]?.reason).toBe("Not now.");
});

test("something else at this address is told and not retried", async () => {
  fake = await Fake.start(STORY);
  fake.scripts.push(async (_, wire) => {
    wire.writeHead(200, { "content-type": "text/html" });
    wire.end("<html>");
  });
  await expect(watched({ after: 0 })).rejects.toBeInstanceOf(Unexpected);
  expect(fake.positions.length).toBe(1);
});

test("leaving the loop closes the connection", async () => {
  fake = await Fake.start(STORY, 4);
  for await (const { event } of new Client({ url: fake.url }).watch(fake.traceId, { after: 0 })) {
    if (event.seq === 4) break;
  }
  await expect.poll(() => fake.open).toBe(0);
});

test("an aborted signal ends it with the signal's reason", async () => {
  fake = await Fake.start(STORY, 4);
  const abort = new AbortController();
  const watching = watched({ after: 0, signal: abort.signal });
  await expect.poll(() => fake.open).toBe(1);
  abort.abort(new Error("enough"));
  await expect(watching).rejects.toThrow("enough");
  await expect.poll(() => fake.open).toBe(0);
});

test("wait resolves at the first pause, or at the end", async () => {
  fake = await Fake.start(STORY, 3);
  const client = new Client({ url: fake.url });
  const waiting = client.wait(fake.traceId, { until: "paused" });
  await expect.poll(() => fake.open).toBe(1);
  fake.publish(15);
  expect([...(await waiting).pauses.keys()]).toEqual(["p0123456789abcdef01234567"]);
  fake.publish();
  expect((await client.wait(fake.traceId)).status).toBe("COMPLETED");
});

test("a journal longer than a page is read in parts where the stream skips it", async () => {
  const at = "2026-11-20T09:00:00.000Z";
  const long: WorkflowEvent[] = [{ ...(STORY[0] as WorkflowEvent) }, { ...(STORY[1] as WorkflowEvent) }];
  for (let seq = 3; seq <= 1500; seq++) {
    const move = { from: "SCHEDULED", to: "IN_PROGRESS", attempt: seq };
    long.push({ event_type: "NODE_STATE_CHANGED", trace_id: "manual", seq, at, node_id: "welcome", ...move });
  }
  long.push({ event_type: "WORKFLOW_FAILED", trace_id: "manual", seq: 1501, at, status: "FAILED", output: null, reason: null });
  fake = await Fake.start(long);
  fake.scripts.push(trimmed);
  const { seen } = await watched({ after: 0 });
  expect(seen.map((event) => event.seq)).toEqual(long.map((event) => event.seq));
});

test("where streams open with tickets each connection orders its own", async () => {
  fake = await Fake.start(STORY);
  fake.scripts.push(refused(401, "ticket-required"), cutAfter(2), refused(401, "ticket-invalid"), wellBehaved);
  const url = (n: number) => `/workflows/${fake.traceId}/events?ticket=t${n}`;
  const tickets = [0, 1, 2].map((n) => ({ status: 201, body: { ticket: `t${n}`, url: url(n), expires_in_s: 30 } }));
  fake.answer("POST", "/sse-tickets", ...tickets);
  const { seen } = await watched({ after: 0 });
  expect(seen).toEqual(STORY);
  const opened = fake.requests.filter((request) => request.path.endsWith("/events"));
  expect(opened.map((request) => request.query.get("ticket"))).toEqual([null, "t0", "t1", "t2"]);
  const order = { trace_id: fake.traceId };
  expect(fake.requests.filter((r) => r.path === "/sse-tickets").map((r) => r.body)).toEqual([order, order, order]);
});

test("a refusal that no ticket cures is thrown", async () => {
  fake = await Fake.start(STORY);
  fake.scripts.push(refused(401, "ticket-invalid"));
  await expect(watched({ after: 0 })).rejects.toThrow("ticket-invalid");
});

import { afterEach, beforeEach, expect, test } from "vitest";
import { Client, Problem, Unexpected, Unreachable } from "../src/index.js";
import { Fake } from "./fake.js";
import { events } from "./recordings.js";

const ACCEPTED = { trace_id: "t1", status: "ACCEPTED", links: { state: "/s", events: "/e", console: "/c" } };
const RESUMING = { trace_id: "manual", pause_id: "p1", action_id: "RES_SKIP", status: "RESUMING" };
const busy = (code: string) => ({ type: `/problems/${code}`, title: "t", status: 503, detail: "A moment.", retry_after: 0 });

let fake: Fake;
let client: Client;
beforeEach(async () => {
  fake = await Fake.start(events("onboarding-manual-sku"));
  client = new Client({ url: `${fake.url}/`, actor: "ada", channel: "console" });
});
afterEach(() => fake.stop());

test("start sends what was given, who acts and through what", async () => {
  fake.answer("POST", "/workflows", { status: 202, body: ACCEPTED });
  const accepted = await client.start({ intent: "Onboard", input: { budget: 2500 } });
  expect(accepted.links.console).toBe("/c");
  const [sent] = fake.requests;
  expect(sent?.body).toEqual({ intent: "Onboard", input: { budget: 2500 } });
  expect(sent?.headers["handrail-actor"]).toBe("ada");
  expect(sent?.headers["handrail-channel"]).toBe("console");
  expect(sent?.headers["content-type"]).toBe("application/json");
});

test("an order whose answer got lost is repeated under the same key, another order has another", async () => {
  fake.answer("POST", "/workflows", { cut: true }, { cut: true }, { status: 202, body: ACCEPTED });
  await client.start({ intent: "x" });
  await client.start({ intent: "x" });
  const keys = fake.requests.map((r) => r.headers["idempotency-key"]);
  expect(keys.length).toBe(4);
  expect(new Set(keys.slice(0, 3)).size).toBe(1);
  expect(keys[3]).not.toBe(keys[0]);
});

test("a key of one's own is used", async () => {
  fake.answer("POST", "/workflows/manual/resume", { status: 202, body: RESUMING });
  await client.resume("manual", { action_id: "RES_SKIP" }, { idempotencyKey: "k-1" });
  expect(fake.requests[0]?.headers["idempotency-key"]).toBe("k-1");
});

test.each(["overloaded", "unavailable", "request-in-progress", "too-many-requests"])("%s is repeated", async (code) => {
  fake.answer("POST", "/workflows", { status: 503, body: busy(code) }, { status: 202, body: ACCEPTED });
  expect((await client.start({ intent: "x" })).trace_id).toBe("t1");
  expect(fake.requests.length).toBe(2);
});

test("a refusal is thrown at once with all that it says", async () => {
  const fault = { pointer: "/input", code: "format", message: "is not a URL" };
  const body = { type: "/problems/already-resolved", status: 409, detail: "Bea was first.", resolved_by: "bea", errors: [fault] };
  fake.answer("POST", "/workflows/manual/resume", { status: 409, body });
  const error = await client.resume("manual", { action_id: "RES_SKIP" }).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(Problem);
  const problem = error as Problem;
  expect([problem.code, problem.status, problem.detail, problem.retriable]).toEqual(["already-resolved", 409, "Bea was first.", false]);
  expect(problem.body.resolved_by).toBe("bea");
  expect(problem.errors).toEqual([fault]);
  expect(fake.requests.length).toBe(1);
});

test("a proxy whose backend is down counts as not available", async () => {
  fake.answer("GET", "/agents", { status: 502, body: "Bad Gateway", headers: { "content-type": "text/html" } });
  const error = await new Client({ url: fake.url, retries: 1 }).agents().catch((e: unknown) => e);
  expect((error as Problem).code).toBe("unavailable");
  expect(fake.requests.length).toBe(2);
});

test("nobody there is Unreachable", async () => {
  const error = await new Client({ url: "http://127.0.0.1:9", retries: 1 }).agents().catch((e: unknown) => e);
  expect(error).toBeInstanceOf(Unreachable);
});

test("a server that is not Handrail is named as such", async () => {
  fake.answer("GET", "/agents", { status: 404, body: "<html>", headers: { "content-type": "text/html" } });
  await expect(client.agents()).rejects.toBeInstanceOf(Unexpected);
  fake.answer("GET", "/agents", { headers: { "content-type": "text/html" } });
  await expect(client.agents()).resolves.toBeNull();
});

test("no answer in time is Unreachable, an aborted signal is its own reason", async () => {
  const never = new Client({ url: fake.url, retries: 0, timeoutMs: 20, fetch: (_, init) => hang(init) });
  await expect(never.agents()).rejects.toBeInstanceOf(Unreachable);
  const abort = new AbortController();
  const asked = new Client({ url: fake.url, fetch: (_, init) => hang(init) }).agents({ signal: abort.signal });
  abort.abort(new Error("enough"));
  await expect(asked).rejects.toThrow("enough");
});

test("filters become the query, an id cannot reach another route", async () => {
  fake.answer("GET", "/workflows", { body: { items: [], next_cursor: null } });
  await client.list({ status: ["RUNNING", "PAUSED_HITL"], labels: { team: "it", a: "b" }, limit: 5, cursor: null });
  expect(fake.requests[0]?.query.toString()).toBe("limit=5&status=RUNNING%2CPAUSED_HITL&label=team%3Ait&label=a%3Ab");
  await client.state("../inbox?x#").catch(() => {});
  expect(fake.requests[1]?.path).toBe("/workflows/../inbox?x#/state");
});

test("an escalation from outside is one order, with what was given and no more", async () => {
  fake.answer("POST", "/escalations", { cut: true }, { status: 202, body: { trace_id: "t1", pause_id: "p1" } });
  const talk = [{ role: "user", text: "I was charged twice" }];
  expect(await client.escalate({ reason: "A dispute", transcript: talk, metadata: { order_id: "7" } })).toEqual({ trace_id: "t1", pause_id: "p1" });
  expect(fake.requests[1]?.body).toEqual({ reason: "A dispute", transcript: talk, metadata: { order_id: "7" } });
  expect(new Set(fake.requests.map((r) => r.headers["idempotency-key"])).size).toBe(1);
});

test("decisions come line by line, filtered; a refusal is a problem", async () => {
  fake.answer("GET", "/feedback.jsonl", { lines: [{ outcome: "edited", comment: "zoë" }, { outcome: "rejected" }] });
  const seen: unknown[] = [];
  for await (const line of client.feedback({ kind: ["gate"], outcome: ["edited", "rejected"] })) seen.push([line.outcome, line.comment]);
  expect(seen).toEqual([["edited", "zoë"], ["rejected", undefined]]);
  expect(fake.requests[0]?.query.toString()).toBe("kind=gate&outcome=edited%2Crejected");
  expect((await client.training("sft").next()).value).toMatchObject({ outcome: "edited" });
  expect(fake.requests[1]?.query.toString()).toBe("format=sft");
  const refused = { type: "/problems/validation", status: 422, detail: "No." };
  fake.answer("GET", "/feedback.jsonl", { status: 422, body: refused });
  await expect(client.training("eval").next()).rejects.toMatchObject({ code: "validation" });
});

test("policies are read, applied, simulated and suggested", async () => {
  const policy = { name: "bank", rules: [] };
  for (const route of ["POST /policies", "POST /policies/simulate", "GET /policies/suggestions", "GET /policies/bank"]) {
    const [method = "", path = ""] = route.split(" ");
    fake.answer(method, path, { body: {} });
  }
  await client.applyPolicy(policy, { comment: "stricter", idempotencyKey: "k" });
  await client.simulatePolicy(policy);
  await client.policySuggestions({ least: 3 });
  await client.policy("bank");
  expect(fake.requests.map((r) => r.body)).toEqual([{ policy, comment: "stricter" }, { policy }, null, null]);
  expect(fake.requests[0]?.headers["idempotency-key"]).toBe("k");
  expect(fake.requests[2]?.query.toString()).toBe("min=3&days=30");
});

test("history asks on until there is no more; where no simulators run the ledger is empty", async () => {
  const seqs: number[] = [];
  for await (const event of client.history(fake.traceId)) seqs.push(event.seq);
  expect(seqs).toEqual(fake.events.map((event) => event.seq));
  fake.answer("GET", "/simulators/ledger", { status: 404, body: { type: "/problems/not-found", status: 404, detail: "No." } });
  expect(await client.ledger("t1")).toEqual([]);
});

test("any actor fits into a header", async () => {
  await new Client({ url: fake.url, actor: "zoë ✓" }).state("manual");
  expect(fake.requests[0]?.headers["handrail-actor"]).toBe("zo%C3%AB%20%E2%9C%93");
});

test("without an address outside of a browser it is the one of make demo", () => {
  expect(new Client().url).toBe("http://127.0.0.1:8080");
});

function hang(init: RequestInit | undefined): Promise<Response> {
  return new Promise((_, reject) => init?.signal?.addEventListener("abort", () => reject(init.signal?.reason)));
}

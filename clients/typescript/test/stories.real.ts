/** The stories of the demo, told by this client against a Handrail that runs at HANDRAIL_URL. */

import { expect, test } from "vitest";
import { Client, Problem, type WorkflowEvent, WorkflowView } from "../src/index.js";
import { canonical } from "./canonical.js";

const client = new Client({ url: process.env.HANDRAIL_URL ?? "http://127.0.0.1:8080", actor: "ada", channel: "api" });
const input = { employee: "Ada", department: "Engineering", budget: 2500 };

test("a laptop that is there runs through, and every way to look at it tells the same", async () => {
  const { trace_id } = await client.start({ blueprint: "employee-onboarding", input: { ...input, sku: "MBP-16" } });
  const seen: WorkflowEvent[] = [];
  for await (const { event } of client.watch(trace_id, { after: 0 })) seen.push(event as WorkflowEvent);
  expect(seen.map((event) => event.seq)).toEqual(seen.map((_, i) => i + 1));
  expect(seen.at(-1)?.event_type).toBe("WORKFLOW_COMPLETED");
  const { history, ...state } = await client.state(trace_id, { history: true });
  expect(history).toEqual(seen);
  expect(canonical(new WorkflowView(trace_id).applyAll(seen).state())).toBe(canonical(state));
});

test("a laptop that is not there asks a person, live in the inbox; a vendor link completes it", async () => {
  const abort = new AbortController();
  const inbox = client.watchInbox({ signal: abort.signal });
  await inbox.next();
  const { trace_id } = await client.start({ blueprint: "employee-onboarding", input: { ...input, sku: "MBP-OUT-OF-STOCK" } });
  const view = await client.wait(trace_id, { until: "paused" });
  const [pause] = [...view.pauses.values()];
  expect(pause?.available_resolutions.map((r) => r.action_id)).toEqual(["RES_SKIP", "RES_MANUAL_SKU", "RES_ABORT_SAGA"]);
  const pause_id = String(pause?.pause_id);
  for await (const { pauses } of inbox) if (pauses.some((open) => open.pause_id === pause_id)) break;
  const preview = await client.preview(trace_id, pause_id, "RES_SKIP");
  expect(preview.nodes).toContainEqual(expect.objectContaining({ node_id: "hardware_procurement", to: "SKIPPED" }));
  const wrong = await client.resume(trace_id, { action_id: "RES_MANUAL_SKU", pause_id, input: "x" }).catch((e: unknown) => e);
  expect((wrong as Problem).code).toBe("invalid-input");
  const decision = { action_id: "RES_MANUAL_SKU", pause_id, input: "https://vendor.example/mbp16" };
  expect((await client.resume(trace_id, decision)).status).toBe("RESUMING");
  expect((await client.wait(trace_id)).status).toBe("COMPLETED");
  abort.abort();
});

test("an escalation from outside is answered, and stands in the decisions with what became of it", async () => {
  const transcript = [{ role: "user", text: "I was charged twice" }];
  const { trace_id, pause_id } = await client.escalate({ reason: "A dispute", summary: "Two charges", transcript });
  await client.wait(trace_id, { until: "paused" });
  await client.say(pause_id, "One moment.");
  await client.resume(trace_id, { action_id: "RES_RESPOND", pause_id, input: "It is undone." });
  expect((await client.wait(trace_id)).status).toBe("COMPLETED");
  const lines = [];
  for await (const line of client.feedback({ outcome: ["responded"] })) if (line.trace_id === trace_id) lines.push(line);
  expect(lines.map((line) => [line.actor, line.later])).toEqual([["ada", { status: "COMPLETED" }]]);
  const types = [];
  for await (const event of client.history(trace_id)) types.push(event.event_type);
  expect(types).toContain("MESSAGE_ADDED");
  expect((await client.policies()).items.map((policy) => policy.name)).toContain("bank");
});

test("what is not there is a problem", async () => {
  await expect(client.state("no-such-workflow")).rejects.toBeInstanceOf(Problem);
});

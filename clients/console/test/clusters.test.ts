import type { Pause } from "@handrail/client";
import { expect, test } from "vitest";
import { clustersOf, commonResolutions, pressing } from "../src/model/clusters.js";
import { ordered } from "../src/intervene/options.js";

const pause = (id: string, more: object = {}): Pause =>
  ({
    pause_id: id,
    trace_id: `t-${id}`,
    kind: "failure",
    failed_agent: "bot",
    failure_reason: "r",
    at: "2026-11-20T09:00:00.000Z",
    attempts: [{ attempt: 1, error: { code: "SKU" } }],
    available_resolutions: [{ action_id: "RES_SKIP" }, { action_id: "RES_URL", input_schema: "url" }],
    ...more,
  }) as unknown as Pause;

test("alike is the same kind, agent and error; approvals are never decided in bulk", () => {
  const found = clustersOf([
    pause("1"),
    pause("2"),
    pause("3", { failed_agent: "other" }),
    pause("4", { attempts: [{ error: { code: "DOWN" } }] }),
    pause("5", { kind: "gate" }),
    pause("6", { kind: "gate" }),
  ]);
  expect([...found.values()].map((cluster) => cluster.pauses.map((each) => each.pause_id))).toEqual([["1", "2"]]);
});

test("only buttons that all of them offer, asking for the same, can be pressed together", () => {
  const other = pause("2", { available_resolutions: [{ action_id: "RES_URL", input_schema: "text" }, { action_id: "RES_SKIP" }] });
  expect(commonResolutions([pause("1"), other]).map((each) => each.action_id)).toEqual(["RES_SKIP"]);
  expect(commonResolutions([])).toEqual([]);
});

test("deadline, then risk, then age", () => {
  const list = [
    pause("young", { at: "2026-11-20T10:00:00.000Z" }),
    pause("old"),
    pause("risky", { at: "2026-11-20T10:00:00.000Z", risk: { score: 0.9 } }),
    pause("soon", { expires_at: "2026-11-20T11:00:00.000Z" }),
    pause("later", { expires_at: "2026-11-21T11:00:00.000Z" }),
  ];
  expect(list.sort(pressing).map((each) => each.pause_id)).toEqual(["soon", "later", "risky", "old", "young"]);
});

test("buttons stand as they were given, danger last", () => {
  const of = (id: string, style: string) => ({ action_id: id, display_text: id, requires_input: false, style }) as never;
  expect(ordered([of("a", "danger"), of("b", "neutral"), of("c", "primary")]).map((each) => each.action_id)).toEqual(["b", "c", "a"]);
});

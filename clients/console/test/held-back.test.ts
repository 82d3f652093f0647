import { expect, test } from "vitest";
import { apart } from "../src/live/held-back.js";

const row = (n: number, status = "RUNNING") => ({ trace_id: `t${n}`, created_at: `2026-01-01T00:00:0${n}Z`, status });

test("rows under a hand stay, follow what is known, and newer ones wait", () => {
  const held = [row(3), row(2), row(1)];
  const { items, waiting } = apart(held, [row(5), row(4), row(3, "COMPLETED"), row(2)]);
  expect(items.map((each) => [each.trace_id, each.status])).toEqual([["t3", "COMPLETED"], ["t2", "RUNNING"], ["t1", "RUNNING"]]);
  expect(waiting).toBe(2);
});

test("so many new ones that the answer holds none of the held: they stay all the same", () => {
  const { items, waiting } = apart([row(3), row(2)], [row(9), row(8), row(7)]);
  expect(items.map((each) => each.trace_id)).toEqual(["t3", "t2"]);
  expect(waiting).toBe(3);
});

test("what does not belong to the answer any more leaves, and pages that are opened below join", () => {
  const { items, waiting } = apart([row(4), row(3), row(2)], [row(4), row(2), row(1)]);
  expect(items.map((each) => each.trace_id)).toEqual(["t4", "t2", "t1"]);
  expect(waiting).toBe(0);
});

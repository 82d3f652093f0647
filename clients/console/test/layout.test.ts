import { expect, test } from "vitest";
import type { NodeView } from "@handrail/client";
import { Elements } from "../src/graph/elements.js";
import { place } from "../src/graph/layout.js";
import { Marker } from "../src/graph/marks.js";
import { LANE, NODE, shapeKey } from "../src/graph/places.js";
import { depthOf, inOrder, type Shape, upstream } from "../src/graph/order.js";
import { step } from "../src/graph/walk.js";

const onboarding: Shape[] = [
  { id: "hr_record", depends_on: [] },
  { id: "email_account", depends_on: ["hr_record"] },
  { id: "hardware", depends_on: ["hr_record"] },
  { id: "payroll", depends_on: ["hr_record"] },
  { id: "welcome", depends_on: ["email_account", "hardware", "payroll"] },
];

/** A plan of n steps, drawn from a seed. */
function random(n: number, seed: number): Shape[] {
  let state = seed;
  const next = (below: number) => {
    state = (state * 1103515245 + 12345) % 2147483648;
    return state % below;
  };
  return Array.from({ length: n }, (_, i) => ({
    id: `n${i}`,
    depends_on: i === 0 ? [] : [...new Set(Array.from({ length: 1 + next(3) }, () => `n${next(i)}`))],
  }));
}

test("the same plan gets the same places, whatever its steps do meanwhile", () => {
  for (const seed of [1, 2, 3]) {
    const plan = random(60, seed);
    const later = plan.map((node) => ({ ...node, state: "COMPLETE", attempt: 2 }));
    expect([...place(later)]).toEqual([...place(plan)]);
    expect(shapeKey(later)).toBe(shapeKey(plan));
  }
});

test("nothing overlaps, the lanes of undos included, and dependencies run to the right", () => {
  for (const plan of [onboarding, random(80, 7)]) {
    const places = [...place(plan)];
    const at = new Map(places);
    const height = NODE.height + LANE.gap + LANE.height;
    for (const [i, [, a]] of places.entries()) {
      for (const [, b] of places.slice(i + 1)) {
        expect(Math.abs(a.x - b.x) >= NODE.width || Math.abs(a.y - b.y) >= height).toBe(true);
      }
    }
    for (const node of plan) for (const from of node.depends_on) expect(at.get(from)?.x ?? 0).toBeLessThan(at.get(node.id)?.x ?? 0);
  }
});

test("steps stand in the order in which they can run; unknown dependencies and cycles end the walk", () => {
  expect(inOrder(onboarding).map((node) => node.id)).toEqual(onboarding.map((node) => node.id));
  expect(depthOf([{ id: "a", depends_on: ["gone", "b"] }, { id: "b", depends_on: ["a"] }])).toEqual(new Map([["a", 0], ["b", 0]]));
  expect([...upstream(onboarding, "hardware")].sort()).toEqual(["hardware", "hr_record"]);
});

test("arrows walk along the dependencies and between neighbours", () => {
  const places = place(onboarding);
  const go = (from: string, way: Parameters<typeof step>[3]) => step(onboarding, places, from, way);
  expect(go("hr_record", "ArrowLeft")).toBe("hr_record");
  expect(go("welcome", "ArrowRight")).toBe("welcome");
  expect(go(go("hr_record", "ArrowRight"), "ArrowLeft")).toBe("hr_record");
  const middle = ["email_account", "hardware", "payroll"];
  const top = middle.find((id) => go(id, "ArrowUp") === id) as string;
  const second = go(top, "ArrowDown");
  expect(middle).toContain(second);
  expect(go(second, "ArrowUp")).toBe(top);
});

test("all lines of a kind are one path, a dependency named twice is drawn once, and what did not change stays", () => {
  const look = (state: string) => ({
    nodes: [node("a", "COMPLETE"), node("b", state, ["a", "a"]), node("c", "PENDING", ["a"])],
    places: new Map(Object.entries({ a: { x: 0, y: 0, depth: 0 }, b: { x: 300, y: 0, depth: 1 }, c: { x: 300, y: 200, depth: 1 } })),
    selected: null,
    tabbable: null,
    added: new Set<string>(),
  });
  const first = look("PENDING");
  const elements = new Elements();
  const wires = elements.of(first).wires;
  expect(wires.map((wire) => [wire.kind, wire.heads.split("z").length - 1])).toEqual([["edge", 2]]);
  expect(elements.of(first).wires).toBe(wires);
  const running = elements.of({ ...look("IN_PROGRESS"), places: first.places }).wires;
  expect(running.map((wire) => [wire.kind, wire.heads.split("z").length - 1])).toEqual([["edge", 1], ["edge-active", 1]]);
  const undone = { ...look("COMPENSATED"), places: first.places };
  undone.nodes[0] = node("a", "COMPENSATING");
  expect(elements.of(undone).wires.map((wire) => wire.kind)).toContain("edge-undo");
});

function node(id: string, state: string, depends_on: string[] = []): NodeView {
  return { id, agent: "x", action: "y", depends_on, state, attempt: 0, max_attempts: 1, started_at: null, finished_at: null, output: null, error: null } as NodeView;
}

test("steps that stand still share one icon path a status; those that need somebody keep their own", () => {
  const marker = new Marker();
  const nodes = ["PENDING", "COMPLETE", "COMPLETE", "AWAITING_HUMAN"].map((state, i) => ({ id: `n${i}`, state, depends_on: [] }) as unknown as NodeView);
  const places = new Map(nodes.map((node, i) => [node.id, { x: i * 300, y: 0, depth: i }]));
  const marks = marker.of(nodes, places, new Set());
  expect(marks.map((mark) => [mark.token, mark.dim, mark.path.split("M").length - 1])).toEqual([
    ["pending", false, 1],
    ["complete", false, 2],
  ]);
  expect(marker.of([...nodes], places, new Set())).toBe(marks);
  expect(marker.of(nodes, places, new Set(["n1"])).map((mark) => [mark.token, mark.dim])).toEqual([
    ["pending", true],
    ["complete", false],
    ["complete", true],
  ]);
});

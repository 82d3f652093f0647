import { describe, expect, test } from "vitest";
import { Gap, NotAnEvent, WorkflowView } from "../src/index.js";
import { canonical } from "./canonical.js";
import { events, expectedView, NAMES } from "./recordings.js";

const traceOf = (name: string) => String(events(name)[0]?.trace_id);

test("there are recordings to compare with", () => {
  expect(NAMES.length).toBeGreaterThanOrEqual(10);
});

describe.each(NAMES)("recording %s", (name) => {
  test("folds to the very view that the server has", () => {
    const view = new WorkflowView(traceOf(name)).applyAll(events(name));
    expect(canonical(view.state())).toBe(canonical(expectedView(name)));
  });

  test("goes on from the snapshot of any moment to the same view", () => {
    const told = events(name);
    for (let at = 0; at <= told.length; at++) {
      const before = new WorkflowView(traceOf(name)).applyAll(told.slice(0, at));
      const copy = JSON.parse(JSON.stringify(before.state()));
      const after = WorkflowView.fromState(copy).applyAll(told.slice(at));
      expect(canonical(after.state())).toBe(canonical(expectedView(name)));
    }
  });

  test("folding twice changes nothing", () => {
    const told = events(name);
    const view = new WorkflowView(traceOf(name)).applyAll(told);
    const state = view.state();
    for (const event of told) expect(view.apply(event)).toBe(false);
    expect(view.state()).toBe(state);
  });

  test("what an event does not touch keeps its identity, and no state changes under a reader", () => {
    const view = new WorkflowView(traceOf(name));
    for (const event of events(name)) {
      const before = view.state();
      const frozen = canonical(before);
      const nodes = new Map(before.nodes.map((node) => [node.id, node]));
      view.apply(event);
      expect(canonical(before)).toBe(frozen);
      expect(view.state()).not.toBe(before);
      for (const node of view.state().nodes) {
        const same = nodes.get(node.id);
        if (same !== undefined && event.node_id !== node.id && event.event_type === "NODE_STATE_CHANGED") {
          expect(node).toBe(same);
        }
      }
    }
  });
});

test("a hole is refused and leaves the view as it was", () => {
  const told = events("onboarding-completes");
  const view = new WorkflowView(traceOf("onboarding-completes")).applyAll(told.slice(0, 3));
  const before = canonical(view.state());
  expect(() => view.apply(told[4] as never)).toThrow(Gap);
  expect(canonical(view.state())).toBe(before);
});

test.each([[null], [{}], [{ seq: "1", event_type: "X" }], [{ seq: 1 }]])("%j is no event", (event) => {
  expect(() => new WorkflowView("t").apply(event as never)).toThrow(NotAnEvent);
});

test("what is no snapshot is told", () => {
  expect(() => WorkflowView.fromState({ cursor: "x", nodes: [], pauses: [] } as never)).toThrow(NotAnEvent);
});

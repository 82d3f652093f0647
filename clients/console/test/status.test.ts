import { expect, test } from "vitest";
import { NODE_STATES, nodeLook, TOKENS, WORKFLOW_STATUSES, workflowLook } from "../src/model/status.js";

test("no two tokens share icon, border and word, nor any two of icon and word", () => {
  const all = Object.values(TOKENS);
  const unique = (of: (token: (typeof all)[number]) => string) => expect(new Set(all.map(of)).size).toBe(all.length);
  unique((each) => `${each.icon}|${each.border}|${each.word}`);
  unique((each) => each.icon);
  unique((each) => each.word);
});

test("statuses that share a token have words of their own", () => {
  const words = NODE_STATES.map((state) => nodeLook(state).word);
  expect(new Set(words).size).toBe(words.length);
  expect(new Set(WORKFLOW_STATUSES.map((status) => workflowLook(status).word)).size).toBe(WORKFLOW_STATUSES.length);
});

test("the words of the contract have their colours", () => {
  expect(Object.fromEntries(NODE_STATES.map((state) => [state, nodeLook(state).token]))).toEqual({
    PENDING: "pending",
    SCHEDULED: "pending",
    IN_PROGRESS: "progress",
    RETRYING: "progress",
    AWAITING_HUMAN: "human",
    COMPLETE: "complete",
    DEAD_LETTERED: "failed",
    SKIPPED: "skipped",
    CANCELLED: "cancelled",
    COMPENSATING: "compensating",
    COMPENSATED: "compensated",
    COMPENSATION_FAILED: "failed",
    NOT_REVERSIBLE: "skipped",
    NOTHING_TO_UNDO: "skipped",
  });
});

test("a state from the future is shown by its name", () => {
  expect(nodeLook("TELEPORTED")).toEqual({ token: "unknown", word: "Unknown (TELEPORTED)" });
  expect(workflowLook("x".repeat(500)).word.length).toBeLessThan(60);
});

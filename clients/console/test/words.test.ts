import type { Preview, WorkflowState } from "@handrail/client";
import { expect, test } from "vitest";
import { events, NAMES } from "../../typescript/test/recordings.js";
import { rowsOf } from "../src/intervene/difference.js";
import { attemptsOf } from "../src/model/attempts.js";
import { curl, quoted } from "../src/model/curl.js";
import { consequence, touchesIrreversible } from "../src/model/effects.js";
import { sentence } from "../src/model/sentences.js";
import { duration, relative } from "../src/model/time.js";
import { auditOf, csvCell } from "../src/pages/run-audit.js";
import { newsOf } from "../src/pages/run-announce.js";
import { decoded } from "../src/pages/letters.js";

const preview = (more: Partial<Preview>): Preview => ({ action_id: "A", status_after: "RUNNING", nodes: [], undo: [], skipped: [], ...more }) as Preview;

test("a button says in one line what it would do", () => {
  const skip = preview({
    nodes: [
      { node_id: "laptop", from: "AWAITING_HUMAN", to: "SKIPPED" },
      { node_id: "welcome", from: "PENDING", to: "SCHEDULED" },
    ],
    skipped: ["laptop"],
  });
  expect(consequence(skip)).toBe("skips laptop, runs welcome; then: running");
  const undo = preview({ status_after: "COMPENSATING", undo: ["d", "c", "b", "a"], nodes: [{ node_id: "e", from: "PENDING", to: "CANCELLED" }] });
  expect(consequence(undo)).toBe("undoes d, c, b + 1 more, cancels e; then: rolling back");
  const approve = preview({ nodes: [{ node_id: "pay", from: "AWAITING_HUMAN", to: "SCHEDULED" }] });
  expect(consequence(approve, "approve")).toBe("runs pay; then: running");
  expect(consequence(approve)).toBe("runs pay again; then: running");
  const again = preview({ status_after: "COMPENSATING", undo: ["mail", "record"], nodes: [{ node_id: "mail", from: "COMPENSATION_FAILED", to: "COMPENSATING" }] });
  expect(consequence(again)).toBe("undoes mail, record; then: rolling back");
  const byHand = preview({ status_after: "COMPENSATING", undo: ["record"], nodes: [{ node_id: "mail", from: "COMPENSATION_FAILED", to: "COMPENSATED" }] });
  expect(consequence(byHand, "mark")).toBe("takes mail for undone, undoes record; then: rolling back");
  expect(consequence(preview({ status_after: "COMPENSATION_INCOMPLETE", standing: ["mail", "record"] }), "stop")).toBe("leaves mail, record standing; then: rolled back in part");
  expect(touchesIrreversible(undo)).toBe(false);
  expect(touchesIrreversible(preview({ undo: ["a"], nodes: [{ node_id: "x", from: "COMPLETE", to: "NOT_REVERSIBLE" }] }))).toBe(true);
});

test("every event of every recording, and of the future, is told in words", () => {
  for (const name of NAMES) {
    for (const event of events(name)) expect(sentence(event), `${name} ${event.event_type}`).toMatch(/\S/);
  }
  expect(sentence({ event_type: "NEW_THING", trace_id: "t", seq: 1, at: "" })).toBe("Unknown event NEW_THING");
});

test("attempts come with their error and times; undos are counted by themselves", () => {
  const abort = events("onboarding-abort");
  const tries = attemptsOf(abort, "hardware_procurement");
  expect(tries.map((each) => [each.attempt, each.undo, each.error?.code])).toEqual([1, 2, 3].map((n) => [n, false, "SKU_UNAVAILABLE"]));
  expect(attemptsOf(abort, "hr_record").some((each) => each.undo)).toBe(true);
});

test("the audit names who decided what", () => {
  const entries = auditOf(events("onboarding-abort"));
  expect(entries.some((each) => each.what.includes("Abort and Rollback Onboarding") && each.pause !== null)).toBe(true);
});

test("a cell that a spreadsheet would run is text", () => {
  expect(csvCell('=HYPERLINK("http://x")')).toBe('"\'=HYPERLINK(""http://x"")"');
  expect(csvCell("plain")).toBe('"plain"');
  expect(csvCell(null)).toBe('""');
});

test("a command for a shell survives every quote", () => {
  expect(quoted("it's")).toBe("'it'\\''s'");
  expect(curl("http://h", "/p", { a: "$(rm)" })).toBe("curl -sS 'http://h/p' -H 'content-type: application/json' -d '{\"a\":\"$(rm)\"}'");
});

test("words that changed are marked, whole values keep their types", () => {
  expect(rowsOf({ balance: 1000 }, { balance: 500 }).filter((row) => row.mark !== "same")).toEqual([
    {
      mark: "changed",
      before: [
        { mark: "same", words: '  "balance": ' },
        { mark: "removed", words: "1000" },
      ],
      after: [
        { mark: "same", words: '  "balance": ' },
        { mark: "added", words: "500" },
      ],
    },
  ]);
  expect(rowsOf("a\nb", "a\nb\nc").map((row) => row.mark)).toEqual(["same", "same", "added"]);
  expect(rowsOf({ n: 1 }, { n: "1" }).some((row) => row.mark === "changed")).toBe(true);
});

test("what is heard is one short sentence per kind of change", () => {
  const state = (nodes: object[], status = "RUNNING") => ({ nodes, status, pauses: [] }) as unknown as WorkflowState;
  const was = state([{ id: "a", state: "IN_PROGRESS" }, { id: "b", state: "IN_PROGRESS" }, { id: "c", state: "RETRYING" }]);
  const now = state([{ id: "a", state: "COMPLETE" }, { id: "b", state: "COMPLETE" }, { id: "c", state: "AWAITING_HUMAN" }]);
  expect(newsOf(was, now)).toEqual(["2 steps complete", "c needs you"]);
  expect(newsOf(now, state([{ id: "a", state: "COMPLETE" }], "COMPLETED"))).toEqual(["Workflow: Completed"]);
});

test("records are shown as what they are", () => {
  expect(decoded(btoa('{"a":1}'))).toEqual({ shown: { a: 1 }, binary: false });
  expect(decoded(btoa("no json"))).toEqual({ shown: "no json", binary: false });
  expect(decoded(btoa("\xff\xfe"))).toEqual({ shown: "//4=", binary: true });
});

test("times in words", () => {
  expect(duration(400)).toBe("0.4 s");
  expect(duration(65_000)).toBe("1 min");
  expect(duration(3 * 3_600_000 + 4 * 60_000)).toBe("3 h 04");
  const now = Date.parse("2026-11-20T09:00:08Z");
  expect(relative("2026-11-20T09:00:00Z", now)).toBe("8 s ago");
  expect(relative("2026-11-20T09:04:08Z", now)).toBe("in 4 min");
  expect(relative("nonsense", now)).toBe("");
});

/** Two values side by side or under each other, with the words that changed marked. JSON keeps its order and its types. */

import { diffLines, diffWordsWithSpace } from "diff";
import { useMemo, useRef, useState } from "react";
import { text } from "../text.js";
import { asText } from "../ui/evidence.js";
import { useKeys } from "../ui/keys.js";

type Mark = "same" | "added" | "removed";
interface Part {
  mark: Mark;
  words: string;
}
interface Row {
  mark: Mark | "changed";
  before: readonly Part[] | null;
  after: readonly Part[] | null;
}

/** Lines, paired where one takes the place of another, with the words that differ. */
export function rowsOf(before: unknown, after: unknown): Row[] {
  const rows: Row[] = [];
  const parts = diffLines(lined(before), lined(after));
  for (let i = 0; i < parts.length; i += 1) {
    const part = parts[i];
    if (!part) continue;
    const lines = split(part.value);
    if (!part.added && !part.removed) {
      for (const line of lines) rows.push({ mark: "same", before: plain(line), after: plain(line) });
      continue;
    }
    const next = parts[i + 1];
    if (part.removed && next?.added) {
      pair(rows, lines, split(next.value));
      i += 1;
    } else for (const line of lines) rows.push(part.added ? { mark: "added", before: null, after: plain(line) } : { mark: "removed", before: plain(line), after: null });
  }
  return rows;
}

function pair(rows: Row[], was: readonly string[], now: readonly string[]): void {
  for (let i = 0; i < Math.max(was.length, now.length); i += 1) {
    const [a, b] = [was[i], now[i]];
    if (a === undefined) rows.push({ mark: "added", before: null, after: plain(b ?? "") });
    else if (b === undefined) rows.push({ mark: "removed", before: plain(a), after: null });
    else {
      const words = diffWordsWithSpace(a, b);
      rows.push({
        mark: "changed",
        before: words.filter((w) => !w.added).map((w) => ({ mark: w.removed ? "removed" : "same", words: w.value })),
        after: words.filter((w) => !w.removed).map((w) => ({ mark: w.added ? "added" : "same", words: w.value })),
      });
    }
  }
}

const lined = (value: unknown): string => (value === undefined ? "" : `${asText(value)}\n`);
const split = (value: string): string[] => value.replace(/\n$/, "").split("\n");
const plain = (words: string): Part[] => [{ mark: "same", words }];

export function Difference({ before, after, split: sideBySide }: { before: unknown; after: unknown; split: boolean }) {
  const rows = useMemo(() => rowsOf(before, after), [before, after]);
  const changes = rows.flatMap((row, i) => (row.mark !== "same" && rows[i - 1]?.mark !== row.mark ? [i] : []));
  const [at, setAt] = useState(-1);
  const box = useRef<HTMLDivElement>(null);
  const move = (by: number) => {
    if (changes.length === 0) return;
    const next = (at + by + changes.length) % changes.length;
    setAt(next);
    box.current?.querySelector(`[data-line="${changes[next]}"]`)?.scrollIntoView({ block: "nearest" });
  };
  useKeys((key) => {
    if (key !== "n" && key !== "p") return;
    move(key === "n" ? 1 : -1);
    return true;
  });
  return (
    <div>
      <div className="row small">
        <span className="dim">{text.approve.changes(changes.length)}</span>
        {changes.length > 1 ? (
          <>
            <button type="button" className="button quiet" onClick={() => move(-1)}>
              {text.approve.previous}
            </button>
            <button type="button" className="button quiet" onClick={() => move(1)}>
              {text.approve.next}
            </button>
          </>
        ) : null}
      </div>
      <div className={`diff ${sideBySide ? "diff-split" : ""}`} ref={box} tabIndex={0} role="region" aria-label={`${text.approve.before}, ${text.approve.after}`}>
        <table>
          <thead className={sideBySide ? "" : "visually-hidden"}>
            <tr>
              <th scope="col">{text.approve.before}</th>
              <th scope="col">{text.approve.after}</th>
            </tr>
          </thead>
          <tbody>
            {rows.map((row, i) =>
              sideBySide ? (
                <tr key={i} data-line={i} className={changes[at] === i ? "here" : ""}>
                  <Cell parts={row.before} mark={row.mark === "same" ? "same" : "removed"} />
                  <Cell parts={row.after} mark={row.mark === "same" ? "same" : "added"} />
                </tr>
              ) : (
                <Unified key={i} row={row} line={i} here={changes[at] === i} />
              ),
            )}
          </tbody>
        </table>
      </div>
    </div>
  );
}

function Unified({ row, line, here }: { row: Row; line: number; here: boolean }) {
  if (row.mark === "same") {
    return (
      <tr data-line={line}>
        <Cell parts={row.before} mark="same" wide />
      </tr>
    );
  }
  return (
    <>
      {row.before ? (
        <tr data-line={line} className={here ? "here" : ""}>
          <Cell parts={row.before} mark="removed" wide />
        </tr>
      ) : null}
      {row.after ? (
        <tr data-line={line} className={here ? "here" : ""}>
          <Cell parts={row.after} mark="added" wide />
        </tr>
      ) : null}
    </>
  );
}

function Cell({ parts, mark, wide }: { parts: readonly Part[] | null; mark: Mark; wide?: boolean }) {
  const sign = { same: " ", added: "+", removed: "-" }[mark];
  return (
    <td data-mark={parts ? mark : "none"} colSpan={wide ? 2 : undefined}>
      {parts ? (
        <>
          <span aria-hidden className="diff-sign">
            {sign}
          </span>
          {parts.map((part, i) => (part.mark === "added" ? <ins key={i}>{part.words}</ins> : part.mark === "removed" ? <del key={i}>{part.words}</del> : <span key={i}>{part.words}</span>))}
        </>
      ) : null}
    </td>
  );
}

/**
 * The icons of steps that stand still: all of one status are one path above the steps. An icon of its own in each step is a
 * drawing of its own to the browser, which costs a frame more than the steps themselves in a large plan.
 */

import type { NodeView } from "@handrail/client";
import { memo } from "react";
import { nodeLook, type Token } from "../model/status.js";
import { NODE, type Placed } from "./places.js";

/** On a grid of 24: where each stroke begins, and how it goes on from there. The same as `StatusIcon` draws. */
const STROKES: Partial<Record<Token, readonly (readonly [x: number, y: number, rest: string])[]>> = {
  pending: [[2, 12, "a10 10 0 1 0 20 0a10 10 0 1 0-20 0"]],
  complete: [[20, 6, "l-11 11l-5-5"]],
  skipped: [
    [21, 4, "v16"],
    [3, 4, "v16l13-8z"],
  ],
  cancelled: [
    [2, 12, "a10 10 0 1 0 20 0a10 10 0 1 0-20 0"],
    [8, 12, "h8"],
  ],
  compensated: [
    [8, 12, "l-5-5l5-5"],
    [3, 7, "h11a6 6 0 0 1 6 5"],
    [9, 18, "l3 3l8-7"],
  ],
};
const SIZE = 20;
const GRID = 24;
const LEFT = 10;

/** Whether the icon of such a step is drawn here; the others move, or are few and matter more. */
export const isMarked = (token: Token): boolean => token in STROKES;

export interface Mark {
  token: Token;
  dim: boolean;
  path: string;
}

/** What did not change keeps its identity. `line` is the way to what stopped; who is not on it is dimmed. */
export class Marker {
  #last: Mark[] = [];

  of(nodes: readonly NodeView[], places: Map<string, Placed>, line: ReadonlySet<string>): Mark[] {
    const found = new Map<string, Mark>();
    for (const node of nodes) {
      const { token } = nodeLook(node.state);
      const strokes = STROKES[token];
      const at = places.get(node.id);
      if (!strokes || !at) continue;
      const dim = line.size > 0 && !line.has(node.id);
      const key = `${token} ${dim}`;
      const mark = found.get(key) ?? { token, dim, path: "" };
      mark.path += drawn(strokes, at);
      found.set(key, mark);
    }
    const same = found.size === this.#last.length && this.#last.every(({ token, dim, path }) => found.get(`${token} ${dim}`)?.path === path);
    if (!same) this.#last = [...found.values()];
    return this.#last;
  }
}

function drawn(strokes: readonly (readonly [number, number, string])[], at: Placed): string {
  const x = (at.x + LEFT) * (GRID / SIZE);
  const y = (at.y + (NODE.height - SIZE) / 2) * (GRID / SIZE);
  return strokes.map(([dx, dy, rest]) => `M${round(x + dx)} ${round(y + dy)}${rest}`).join("");
}

const round = (value: number): number => Math.round(value * 10) / 10;

export const Marks = memo(function Marks({ of }: { of: readonly Mark[] }) {
  return (
    <svg className="marks" width={1} height={1} aria-hidden>
      <g transform={`scale(${SIZE / GRID})`}>
        {of.map(({ token, dim, path }) => (
          <path key={`${token} ${dim}`} className={dim ? "mark dimmed" : "mark"} data-token={token} d={path} />
        ))}
      </g>
    </svg>
  );
});

/**
 * The lines between steps: all of one kind are one path, below the steps. A path per dependency costs a frame more than
 * everything else in a large plan, and nobody points at them.
 */

import { getBezierPath, getSmoothStepPath, Position } from "@xyflow/react";
import { memo } from "react";
import type { NodeView } from "@handrail/client";
import { LANE, NODE, type Placed } from "./places.js";

export type Kind = "edge" | "edge-active" | "edge-fault" | "edge-dim" | "edge-undo";

/** Lines and arrow heads of one kind, as path data. */
export interface Wire {
  kind: Kind;
  lines: string;
  heads: string;
}

const HEAD = { length: 9, half: 5 } as const;
/** In drawing order: what matters lies on top. */
const KINDS: readonly Kind[] = ["edge", "edge-dim", "edge-active", "edge-undo", "edge-fault"];

type Drawn = readonly [line: string, head: string];

export class Loom {
  #places: Map<string, Placed> | null = null;
  #drawn = new Map<string, Drawn>();
  #last: Wire[] = [];

  /** What did not change keeps its identity. `line` is the way to what stopped, `undone` who has a lane. */
  of(nodes: readonly NodeView[], places: Map<string, Placed>, line: ReadonlySet<string>, undone: ReadonlySet<string>): Wire[] {
    if (this.#places !== places) {
      this.#places = places;
      this.#drawn.clear();
    }
    const found = new Map<Kind, Drawn[]>();
    const put = (kind: Kind, drawn: Drawn) => {
      const all = found.get(kind);
      if (all) all.push(drawn);
      else found.set(kind, [drawn]);
    };
    for (const node of nodes) {
      const to = places.get(node.id);
      if (!to) continue;
      for (const id of new Set(node.depends_on)) {
        const from = places.get(id);
        if (!from) continue;
        put(kindOf(line, id, node), this.#kept(`${id}>${node.id}`, () => forward(from, to)));
        // Undoing runs the other way: the arrow goes from what came later to what came before.
        if (undone.has(id) && undone.has(node.id)) put("edge-undo", this.#kept(`${node.id}<${id}`, () => back(to, from)));
      }
    }
    const wires = KINDS.flatMap((kind) => {
      const all = found.get(kind);
      return all ? [{ kind, lines: all.map(([path]) => path).join(""), heads: all.map(([, head]) => head).join("") }] : [];
    });
    const same = wires.length === this.#last.length && wires.every((wire, i) => wire.kind === this.#last[i]?.kind && wire.lines === this.#last[i]?.lines);
    if (!same) this.#last = wires;
    return this.#last;
  }

  #kept(key: string, draw: () => Drawn): Drawn {
    const old = this.#drawn.get(key);
    if (old) return old;
    const made = draw();
    this.#drawn.set(key, made);
    return made;
  }
}

function kindOf(line: ReadonlySet<string>, from: string, to: NodeView): Kind {
  if (line.size === 0) return to.state === "IN_PROGRESS" ? "edge-active" : "edge";
  return line.has(from) && line.has(to.id) ? "edge-fault" : "edge-dim";
}

function forward(from: Placed, to: Placed): Drawn {
  const [x, y] = [to.x, to.y + NODE.height / 2];
  const [path] = getSmoothStepPath({
    sourceX: from.x + NODE.width,
    sourceY: from.y + NODE.height / 2,
    sourcePosition: Position.Right,
    targetX: x - HEAD.length + 1,
    targetY: y,
    targetPosition: Position.Left,
  });
  return [path, `M${x} ${y}l${-HEAD.length} ${-HEAD.half}v${2 * HEAD.half}z`];
}

function back(from: Placed, to: Placed): Drawn {
  const inset = (NODE.width - LANE.width) / 2;
  const middle = NODE.height + LANE.gap + LANE.height / 2;
  const [x, y] = [to.x + inset + LANE.width, to.y + middle];
  const [path] = getBezierPath({
    sourceX: from.x + inset,
    sourceY: from.y + middle,
    sourcePosition: Position.Left,
    targetX: x + HEAD.length - 1,
    targetY: y,
    targetPosition: Position.Right,
  });
  return [path, `M${x} ${y}l${HEAD.length} ${-HEAD.half}v${2 * HEAD.half}z`];
}

export const Wires = memo(function Wires({ of }: { of: readonly Wire[] }) {
  return (
    <svg className="wires" width={1} height={1} aria-hidden>
      {of.map(({ kind, lines, heads }) => (
        <g key={kind} className={kind}>
          <path className="wire" d={lines} />
          <path className="wire-head" d={heads} />
        </g>
      ))}
    </svg>
  );
});

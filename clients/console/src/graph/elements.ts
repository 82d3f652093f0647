/** From the state of a workflow to what the picture shows. What did not change keeps its identity, so nothing is drawn twice. */

import type { NodeView } from "@handrail/client";
import type { Node } from "@xyflow/react";
import { isFault, isUndo } from "../model/status.js";
import { LANE, NODE, type Placed } from "./places.js";
import { upstream } from "./order.js";
import { type Mark, Marker } from "./marks.js";
import { Loom, type Wire } from "./wires.js";

export interface StepData extends Record<string, unknown> {
  node: NodeView;
  n: number;
  of: number;
  dim: boolean;
  fault: boolean;
  selected: boolean;
  /** The one that Tab reaches. */
  tabbable: boolean;
  added: boolean;
}

export interface LaneData extends Record<string, unknown> {
  node: NodeView;
}

export type StepNode = Node<StepData, "step">;
export type LaneNode = Node<LaneData, "lane">;
export type Any = StepNode | LaneNode;

export interface Look {
  nodes: readonly NodeView[];
  places: Map<string, Placed>;
  selected: string | null;
  tabbable: string | null;
  added: ReadonlySet<string>;
  /** No fault line: a plan before it runs, or a moment of the replay. */
  calm?: boolean;
}

/** At its place without a transform: with one, each step is a drawing of its own to the browser, at every frame. */
const flat = (left: number, top: number) => ({ transform: "none", left, top });

/** Everything on the way to what stopped; empty when nothing did. */
export function faultLine(nodes: readonly NodeView[]): Set<string> {
  const faults = nodes.filter((node) => isFault(node.state));
  const line = new Set<string>();
  for (const fault of faults) for (const id of upstream(nodes, fault.id)) line.add(id);
  return line;
}

export class Elements {
  #nodes = new Map<string, Any>();
  #loom = new Loom();
  #marker = new Marker();

  of(look: Look): { nodes: Any[]; wires: readonly Wire[]; marks: readonly Mark[] } {
    const line = look.calm ? new Set<string>() : faultLine(look.nodes);
    const nodes: Any[] = [];
    const laned = new Set(look.nodes.filter((node) => isUndo(node.state)).map((node) => node.id));
    look.nodes.forEach((node, i) => {
      const at = look.places.get(node.id);
      if (!at) return;
      nodes.push(this.#step(node, at, i, look, line));
      if (laned.has(node.id)) nodes.push(this.#lane(node, at));
    });
    return { nodes, wires: this.#loom.of(look.nodes, look.places, line, laned), marks: this.#marker.of(look.nodes, look.places, line) };
  }

  #step(node: NodeView, at: Placed, i: number, look: Look, line: Set<string>): StepNode {
    const data: StepData = {
      node,
      n: i + 1,
      of: look.nodes.length,
      dim: line.size > 0 && !line.has(node.id),
      fault: line.has(node.id) && isFault(node.state),
      selected: look.selected === node.id,
      tabbable: look.tabbable === node.id,
      added: look.added.has(node.id),
    };
    return this.#kept(node.id, at.x, at.y, data, () => ({
      id: node.id,
      type: "step" as const,
      position: { x: at.x, y: at.y },
      style: flat(at.x, at.y),
      data,
      width: NODE.width,
      height: NODE.height,
    })) as StepNode;
  }

  #lane(node: NodeView, at: Placed): LaneNode {
    const [x, y] = [at.x + (NODE.width - LANE.width) / 2, at.y + NODE.height + LANE.gap];
    const data: LaneData = { node };
    return this.#kept(`undo:${node.id}`, x, y, data, () => ({
      id: `undo:${node.id}`,
      type: "lane" as const,
      position: { x, y },
      style: flat(x, y),
      data,
      width: LANE.width,
      height: LANE.height,
    })) as LaneNode;
  }

  #kept(id: string, x: number, y: number, data: Record<string, unknown>, make: () => Any): Any {
    const old = this.#nodes.get(id);
    const held = old?.data as Record<string, unknown> | undefined;
    const same = old && old.position.x === x && old.position.y === y && Object.keys(data).every((name) => held?.[name] === data[name]);
    if (same) return old;
    const made = make();
    this.#nodes.set(id, made);
    return made;
  }
}

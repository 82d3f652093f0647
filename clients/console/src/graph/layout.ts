/** Where the steps stand: left to right by dependency, with room for the lane of undos under each. */

import { Graph, layout as dagre } from "@dagrejs/dagre";
import { depthOf, type Shape } from "./order.js";

export const NODE = { width: 224, height: 68 } as const;
/** The lane of a node's undo; its room is kept from the first frame, so that nothing moves when an abort begins. */
export const LANE = { width: 176, height: 34, gap: 8 } as const;

export interface Placed {
  x: number;
  y: number;
  /** Distance from a source: the column. */
  depth: number;
}

/** What a layout depends on. The same key, the same places. */
export function shapeKey(nodes: readonly Shape[]): string {
  return nodes.map((node) => `${node.id}<${node.depends_on.join(",")}`).join(";");
}

/** Top left corners by node id. Deterministic: the same shape gets the same places. */
export function place(nodes: readonly Shape[]): Map<string, Placed> {
  const graph = new Graph();
  graph.setGraph({ rankdir: "LR", nodesep: 18, ranksep: 56, marginx: 8, marginy: 8 });
  graph.setDefaultEdgeLabel(() => ({}));
  const height = NODE.height + LANE.gap + LANE.height;
  const known = new Set(nodes.map((node) => node.id));
  for (const node of nodes) graph.setNode(node.id, { width: NODE.width, height });
  for (const node of nodes) for (const from of node.depends_on) if (known.has(from)) graph.setEdge(from, node.id);
  dagre(graph);
  const depths = depthOf(nodes);
  const placed = new Map<string, Placed>();
  for (const node of nodes) {
    const at = graph.node(node.id) as { x: number; y: number };
    placed.set(node.id, { x: Math.round(at.x - NODE.width / 2), y: Math.round(at.y - height / 2), depth: depths.get(node.id) ?? 0 });
  }
  return placed;
}

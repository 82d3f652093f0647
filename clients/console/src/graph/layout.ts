/** Where the steps stand: left to right by dependency, with room for the lane of undos under each. For the worker. */

import { Graph, layout as dagre } from "@dagrejs/dagre";
import { depthOf, type Shape } from "./order.js";
import { LANE, NODE, type Placed } from "./places.js";

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

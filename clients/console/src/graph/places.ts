/** How large steps are, and what their places depend on. */

import type { Shape } from "./order.js";

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

/** Walking a graph with the arrow keys: left and right along the edges, up and down between neighbours. */

import type { Placed } from "./places.js";
import type { Shape } from "./order.js";

export type Direction = "ArrowLeft" | "ArrowRight" | "ArrowUp" | "ArrowDown";

/** Where an arrow leads from `id`; the same id where it leads nowhere. */
export function step(nodes: readonly Shape[], places: Map<string, Placed>, id: string, direction: Direction): string {
  const here = places.get(id);
  const node = nodes.find((each) => each.id === id);
  if (!here || !node) return nodes[0]?.id ?? id;
  if (direction === "ArrowLeft") return nearest(node.depends_on, places, here) ?? id;
  if (direction === "ArrowRight") {
    return nearest(nodes.filter((each) => each.depends_on.includes(id)).map((each) => each.id), places, here) ?? id;
  }
  const column = nodes
    .map((each) => each.id)
    .filter((other) => Math.abs((places.get(other)?.x ?? Number.NaN) - here.x) < 40)
    .sort((a, b) => (places.get(a)?.y ?? 0) - (places.get(b)?.y ?? 0));
  return column[column.indexOf(id) + (direction === "ArrowUp" ? -1 : 1)] ?? id;
}

function nearest(ids: readonly string[], places: Map<string, Placed>, here: Placed): string | undefined {
  return ids
    .filter((id) => places.has(id))
    .sort((a, b) => Math.abs((places.get(a)?.y ?? 0) - here.y) - Math.abs((places.get(b)?.y ?? 0) - here.y))[0];
}

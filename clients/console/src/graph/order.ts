/** The order of steps by their dependencies, without places. */

export interface Shape {
  id: string;
  depends_on: readonly string[];
}

/** The longest way from a source to each node. A cycle, which no plan has, ends the walk. */
export function depthOf(nodes: readonly Shape[]): Map<string, number> {
  const by = new Map(nodes.map((node) => [node.id, node]));
  const depth = new Map<string, number>();
  const dependants = new Map<string, string[]>();
  const missing = new Map<string, number>();
  for (const node of nodes) {
    const known = node.depends_on.filter((id) => by.has(id));
    missing.set(node.id, known.length);
    for (const from of known) dependants.set(from, [...(dependants.get(from) ?? []), node.id]);
  }
  const ready = nodes.filter((node) => missing.get(node.id) === 0).map((node) => node.id);
  for (const id of ready) depth.set(id, 0);
  for (let i = 0; i < ready.length; i += 1) {
    const id = ready[i] as string;
    for (const after of dependants.get(id) ?? []) {
      depth.set(after, Math.max(depth.get(after) ?? 0, (depth.get(id) ?? 0) + 1));
      const left = (missing.get(after) ?? 1) - 1;
      missing.set(after, left);
      if (left === 0) ready.push(after);
    }
  }
  for (const node of nodes) if (!depth.has(node.id)) depth.set(node.id, 0);
  return depth;
}

/** In the order in which they can run: by depth, then as planned. */
export function inOrder<T extends Shape>(nodes: readonly T[]): T[] {
  const depth = depthOf(nodes);
  return nodes
    .map((node, i) => ({ node, i }))
    .sort((a, b) => (depth.get(a.node.id) ?? 0) - (depth.get(b.node.id) ?? 0) || a.i - b.i)
    .map(({ node }) => node);
}

/** The node and everything that it waited for. */
export function upstream(nodes: readonly Shape[], id: string): Set<string> {
  const by = new Map(nodes.map((node) => [node.id, node]));
  const found = new Set<string>();
  const walk = [id];
  for (let next = walk.pop(); next !== undefined; next = walk.pop()) {
    if (found.has(next)) continue;
    found.add(next);
    walk.push(...(by.get(next)?.depends_on ?? []));
  }
  return found;
}

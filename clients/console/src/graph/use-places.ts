/** Places of a plan, computed once per shape and never on the main thread: steps never move while they run. */

import { useEffect, useMemo, useState } from "react";
import { type Placed, shapeKey } from "./places.js";
import type { Shape } from "./order.js";

export type Asked = readonly [key: string, nodes: readonly Shape[]];
export type Laid = readonly [key: string, places: readonly (readonly [string, Placed])[]];

const cache = new Map<string, Map<string, Placed>>();
const CACHED = 20;
const waiting = new Map<string, Set<(places: Map<string, Placed>) => void>>();

// Begun with this module, so that it is ready when the first picture asks.
const worker = new Worker(new URL("./layout.worker.ts", import.meta.url), { type: "module" });
worker.onmessage = (event: MessageEvent<Laid>) => {
  const [key, laid] = event.data;
  const places = new Map(laid);
  cache.set(key, places);
  const oldest = cache.keys().next().value;
  if (cache.size > CACHED && oldest !== undefined) cache.delete(oldest);
  for (const tell of waiting.get(key) ?? []) tell(places);
  waiting.delete(key);
};

function ask(key: string, nodes: readonly Shape[], tell: (places: Map<string, Placed>) => void): () => void {
  const others = waiting.get(key);
  const all = others ?? new Set();
  all.add(tell);
  waiting.set(key, all);
  if (!others) worker.postMessage([key, nodes.map(({ id, depends_on }) => ({ id, depends_on }))] satisfies Asked);
  return () => all.delete(tell);
}

/** Null until a plan is laid out; then the old places hold until the new ones are there. */
export function usePlaces(nodes: readonly Shape[]): Map<string, Placed> | null {
  const key = useMemo(() => shapeKey(nodes), [nodes]);
  const [laid, setLaid] = useState<Map<string, Placed> | null>(null);
  const known = cache.get(key) ?? null;
  useEffect(() => {
    if (cache.has(key)) return;
    return ask(key, nodes, setLaid);
    // biome-ignore lint: the key says everything about the nodes that matters here
  }, [key]);
  useEffect(() => {
    if (known) setLaid(known); // holds when the next shape is being laid out
  }, [known]);
  return known ?? laid;
}

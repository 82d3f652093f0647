/** Places of a plan, computed once per shape: steps never move while they run. */

import { useEffect, useMemo, useState } from "react";
import { type Placed, place, shapeKey } from "./layout.js";
import type { Shape } from "./order.js";

const WORKER_FROM = 150;
const cache = new Map<string, Map<string, Placed>>();
const CACHED = 20;

function remember(key: string, places: Map<string, Placed>): Map<string, Placed> {
  cache.set(key, places);
  const oldest = cache.keys().next().value;
  if (cache.size > CACHED && oldest !== undefined) cache.delete(oldest);
  return places;
}

/** Null until a large plan is laid out; then the old places hold until the new ones are there. */
export function usePlaces(nodes: readonly Shape[]): Map<string, Placed> | null {
  const key = useMemo(() => shapeKey(nodes), [nodes]);
  const [far, setFar] = useState<{ key: string; places: Map<string, Placed> } | null>(null);
  const near = useMemo(() => {
    if (cache.has(key)) return cache.get(key) ?? null;
    return nodes.length <= WORKER_FROM ? remember(key, place(nodes)) : null;
    // biome-ignore lint: the key says everything about the nodes that matters here
  }, [key]);
  useEffect(() => {
    if (near !== null) return;
    const worker = new Worker(new URL("./layout.worker.ts", import.meta.url), { type: "module" });
    worker.onmessage = (event: MessageEvent<[string, Placed][]>) => {
      setFar({ key, places: remember(key, new Map(event.data)) });
      worker.terminate();
    };
    worker.postMessage(nodes.map(({ id, depends_on }) => ({ id, depends_on })));
    return () => worker.terminate();
    // biome-ignore lint: the key says everything about the nodes that matters here
  }, [key, near]);
  return near ?? far?.places ?? null;
}

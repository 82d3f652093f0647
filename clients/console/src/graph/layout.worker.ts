/** Lays plans out beside the main thread. */

import { place } from "./layout.js";
import type { Asked, Laid } from "./use-places.js";

self.onmessage = (event: MessageEvent<Asked>) => {
  const [key, nodes] = event.data;
  self.postMessage([key, [...place(nodes)]] satisfies Laid);
};

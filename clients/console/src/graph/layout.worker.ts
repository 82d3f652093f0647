/** Large plans are laid out beside the page, which stays awake meanwhile. */

import { place } from "./layout.js";
import type { Shape } from "./order.js";

self.onmessage = (event: MessageEvent<Shape[]>) => {
  self.postMessage([...place(event.data)]);
};

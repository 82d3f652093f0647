/** The one client of this page, and the cache of what it asked. Nothing is asked for again by the clock. */

import { Client } from "@handrail/client";
import { QueryClient } from "@tanstack/react-query";
import { usePreferences } from "./preferences.js";

export const client = new Client({
  channel: "console",
  retries: 2,
  headers: () => ({ "handrail-actor": inHeader(usePreferences.getState().actor) }),
});

export const queries = new QueryClient({
  defaultOptions: {
    queries: { retry: 1, staleTime: 5_000, refetchInterval: false, refetchOnWindowFocus: true, refetchOnReconnect: true },
  },
});

function inHeader(text: string): string {
  return /^[\x20-\x7e]+$/.test(text) ? text : encodeURIComponent(text || "local");
}

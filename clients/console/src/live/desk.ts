/** The inbox, live: one feed for the badge, the list and the palette, so that they never disagree. */

import type { Closed, Connection, Pause } from "@handrail/client";
import { createStore } from "zustand/vanilla";
import { client, queries } from "./client.js";
import { dropDraft } from "./drafts.js";

export interface Gone extends Closed {
  /** By the clock of this browser. */
  goneAt: number;
}

export interface Desk {
  /** Null until the first snapshot. */
  pauses: readonly Pause[] | null;
  truncated: boolean;
  /** What left within the last seconds: rows fade and do not vanish under the cursor. */
  gone: readonly Gone[];
  connection: Connection;
  error: Error | null;
}

export const GONE_MS = 5_000;

export const desk = createStore<Desk>(() => ({
  pauses: null,
  truncated: false,
  gone: [],
  connection: { state: "connecting", attempt: 0, delayMs: 0, reason: "" },
  error: null,
}));

let heardAt = Date.now();
export const deskHeardAt = (): number => heardAt;

let begun = false;

/** Follows the inbox as long as the page lives. */
export function openDesk(): void {
  if (begun) return;
  begun = true;
  void follow();
}

async function follow(): Promise<void> {
  const options = {
    onConnection: (connection: Connection) => desk.setState({ connection }),
    onHeard: () => {
      heardAt = Date.now();
    },
  };
  try {
    for await (const { pauses, truncated, closed } of client.watchInbox(options)) {
      const gone = closed.map((each) => ({ ...each, goneAt: Date.now() }));
      desk.setState((now) => ({ pauses, truncated, gone: [...now.gone, ...gone], error: null }));
      for (const { pause } of closed) dropDraft(pause.pause_id);
      if (gone.length > 0) setTimeout(sweep, GONE_MS + 50);
      // Lists that are asked for, not streamed, follow the same news.
      void queries.invalidateQueries({ queryKey: ["resolved"] });
      void queries.invalidateQueries({ queryKey: ["dead-letters"] });
    }
  } catch (error) {
    desk.setState({ error: error instanceof Error ? error : new Error(String(error)) });
  }
}

function sweep(): void {
  const now = Date.now();
  desk.setState((held) => ({ gone: held.gone.filter((each) => now - each.goneAt < GONE_MS) }));
}

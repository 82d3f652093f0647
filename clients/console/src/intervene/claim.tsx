/** Who has taken it, for how long. A claim is a courtesy with a clock, not a lock. */

import { type Pause, Problem } from "@handrail/client";
import { useState } from "react";
import { client } from "../live/client.js";
import { useNow } from "../live/hooks.js";
import { usePreferences } from "../live/preferences.js";
import { clock } from "../model/time.js";
import { text } from "../text.js";
import { useKeys } from "../ui/keys.js";
import { toast } from "../ui/toasts.js";

const SECONDS = 900;

/** Who holds it now, null when nobody does. */
export function holder(pause: Pause, now: number): string | null {
  if (!pause.claimed_by || !pause.claimed_until) return null;
  return Date.parse(pause.claimed_until) > now ? pause.claimed_by : null;
}

export function Claim({ pause }: { pause: Pause }) {
  const actor = usePreferences((p) => p.actor);
  const now = useNow(1000, Boolean(pause.claimed_by));
  const held = holder(pause, now);
  const [busy, setBusy] = useState(false);
  const act = async (call: () => Promise<unknown>) => {
    setBusy(true);
    try {
      await call();
    } catch (error) {
      toast(text.common.failed, error instanceof Problem ? error.detail : String(error), true);
    }
    setBusy(false);
  };
  useKeys((key) => {
    if (key !== "c" || held !== null) return;
    void act(() => client.claim(pause.pause_id, SECONDS));
    return true;
  });
  const until = clock(pause.claimed_until);
  return (
    <p className="claim">
      {held === null ? (
        <button type="button" className="button" disabled={busy} onClick={() => act(() => client.claim(pause.pause_id, SECONDS))}>
          {text.pause.claim}
        </button>
      ) : held === actor ? (
        <>
          <span>{text.pause.claimedYou(until)}</span>
          <button type="button" className="button quiet" disabled={busy} onClick={() => act(() => client.release(pause.pause_id))}>
            {text.pause.release}
          </button>
        </>
      ) : (
        <span>{text.pause.claimed(held, until)}</span>
      )}
    </p>
  );
}

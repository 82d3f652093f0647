/** How a pause ended, and who ended it. */

import type { Pause, WorkflowEvent } from "@handrail/client";
import { useEffect, useRef } from "react";
import { useNow } from "../live/hooks.js";
import { usePreferences } from "../live/preferences.js";
import { Link, to } from "../model/router.js";
import { relative } from "../model/time.js";
import { text } from "../text.js";

/** What a button is called, else its id. */
export function labelOf(pause: Pause, actionId: unknown): string {
  return pause.available_resolutions.find((each) => each.action_id === actionId)?.display_text ?? String(actionId ?? "");
}

export function sentenceOf(pause: Pause, event: WorkflowEvent, actor: string, now: number): string {
  const label = labelOf(pause, event.action_id);
  if (event.outcome === "expired") return text.pause.expired(label);
  if (event.outcome === "superseded") return text.pause.superseded;
  if (event.outcome === "cancelled") return text.pause.cancelled;
  if (event.actor === actor && event.channel === "console") return text.pause.doneYou(label);
  return text.pause.doneOther(String(event.actor), String(event.channel), relative(event.at, now), label);
}

/** `watched`: it was open while somebody looked at it here. */
export function Closed({ pause, event, watched }: { pause: Pause; event: WorkflowEvent | null; watched: boolean }) {
  const heading = useRef<HTMLHeadingElement>(null);
  const actor = usePreferences((p) => p.actor);
  const now = useNow(1000);
  const seq = event?.seq;
  useEffect(() => {
    // After a decision the focus goes to its result; the buttons that had it are gone.
    if (!watched) return;
    if (document.activeElement === document.body || document.activeElement?.id === "main") heading.current?.focus();
  }, [watched]);
  return (
    <div className="notice closed" data-tone="good" data-testid="closed" data-seq={seq}>
      <h3 ref={heading} tabIndex={-1} className="wrap">
        {event ? sentenceOf(pause, event, actor, now) : text.pause.superseded}
      </h3>
      {event?.comment ? <p className="wrap">{String(event.comment)}</p> : null}
      <p className="row">
        <Link className="button" href={to(["workflows", pause.trace_id], { tab: "graph" })}>
          {text.pause.viewResult}
        </Link>
        <Link className="button quiet" href={to(["workflows", pause.trace_id], { tab: "audit" })}>
          {text.pause.viewAudit}
        </Link>
      </p>
    </div>
  );
}

/** The inbox, live: which pauses are open over all workflows, kept by a snapshot and by what opens and closes them. */

import type { Calls } from "./calls.js";
import { Unexpected } from "./errors.js";
import type { Frame } from "./sse.js";
import { type Follower, follow, type StreamOptions, type TicketOrder, type Verdict } from "./stream.js";
import type { Pause, WorkflowEvent } from "./types.js";
import { TERMINAL_EVENTS } from "./view.js";
import { object } from "./watch.js";

/** Open pauses, newest first. A new object per change. `truncated`: there are more than the server keeps for this. */
export interface Inbox {
  pauses: readonly Pause[];
  truncated: boolean;
  /** What has just left: how it was decided, or the end of its workflow. Empty for every other change. */
  closed: readonly Closed[];
}

/** A pause that left the inbox, and the event that closed it. */
export interface Closed {
  pause: Pause;
  event: WorkflowEvent;
}

type Receive = (inbox: Inbox) => void | Promise<void>;

/** Follows the inbox for ever; `receive` gets every state of it. Ends when the signal is aborted. */
export async function watchInbox(calls: Calls, options: StreamOptions, receive: Receive): Promise<void> {
  await follow(calls, new InboxFollower(receive), options);
}

class InboxFollower implements Follower {
  #pauses: Map<string, Pause> = new Map();
  #truncated = false;
  #closed: Closed[] = [];

  constructor(readonly receive: Receive) {}

  route(): string {
    return "/inbox/events";
  }

  ticket(): TicketOrder {
    return { inbox: true };
  }

  position(): null {
    return null;
  }

  async over(): Promise<Verdict> {
    return "again";
  }

  async take(frame: Frame): Promise<Verdict> {
    const data = object(frame.data);
    this.#closed = [];
    if (frame.event === "snapshot") this.#replace(data);
    else if (!this.#fold(frame.event, data as WorkflowEvent)) return "go on";
    const pauses = [...this.#pauses.values()].reverse();
    await this.receive({ pauses, truncated: this.#truncated, closed: this.#closed });
    return "go on";
  }

  #replace(data: Record<string, unknown>): void {
    if (!Array.isArray(data.items)) throw new Unexpected("Expected the open pauses in a snapshot, but it has none.");
    const oldestFirst = (data.items as Pause[]).slice().reverse();
    this.#pauses = new Map(oldestFirst.map((pause) => [pause.pause_id, pause]));
    this.#truncated = data.truncated === true;
  }

  #fold(kind: string, event: WorkflowEvent): boolean {
    const id = String(event.pause_id);
    const pause = this.#pauses.get(id);
    if (kind === "WORKFLOW_PAUSED_HITL") {
      this.#pauses.delete(id);
      this.#pauses.set(id, event as unknown as Pause);
      return true;
    }
    if (kind === "HITL_RESOLVED") {
      if (pause !== undefined) this.#closed = [{ pause, event }];
      return this.#pauses.delete(id);
    }
    if (TERMINAL_EVENTS.has(kind)) {
      const gone = [...this.#pauses.values()].filter((open) => open.trace_id === event.trace_id);
      for (const open of gone) this.#pauses.delete(open.pause_id);
      this.#closed = gone.map((open) => ({ pause: open, event }));
      return gone.length > 0;
    }
    if (pause === undefined) return false;
    if (kind === "PAUSE_UPDATED") {
      const { claimed_by = pause.claimed_by, claimed_until = pause.claimed_until, reminded_at = pause.reminded_at } =
        event as Partial<Pause>;
      this.#pauses.set(id, { ...pause, claimed_by, claimed_until, reminded_at } as Pause);
      return true;
    }
    if (kind === "MESSAGE_ADDED") {
      const withheld = event.withheld === true ? { withheld: true } : {};
      const said = { role: String(event.role), text: String(event.text), at: event.at, ...withheld };
      this.#pauses.set(id, { ...pause, transcript: [...(pause.transcript ?? []), said] });
      return true;
    }
    return false;
  }
}

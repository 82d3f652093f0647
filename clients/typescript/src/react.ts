/** React: `useWorkflow(traceId)` and a headless `useInbox()`. Live, rehydrating by themselves, no polling. */

import { createContext, createElement, type ReactNode, useContext, useMemo, useSyncExternalStore } from "react";
import { Client, type ResumeRequest } from "./client.js";
import type { LiveInbox, LiveWorkflow } from "./stores.js";
import type { Claimed, Pause, Resuming } from "./types.js";

const Context = createContext<Client | null>(null);
let fallback: Client | null = null;

/** Gives its children the client that their hooks use. Without it they use one to the page's own origin. */
export function HandrailProvider(props: { client: Client; children?: ReactNode }): ReactNode {
  return createElement(Context.Provider, { value: props.client }, props.children);
}

/** The client of the nearest provider. */
export function useHandrail(): Client {
  const client = useContext(Context);
  if (client !== null) return client;
  fallback ??= new Client();
  return fallback;
}

/** A workflow, live: its state, how the connection stands, what its agents say. Null watches nothing. */
export function useWorkflow(traceId: string | null): LiveWorkflow {
  const client = useHandrail();
  const store = useMemo(() => (traceId === null ? NOTHING : client.workflow(traceId)), [client, traceId]);
  return useSyncExternalStore(store.subscribe, store.getSnapshot, store.getSnapshot);
}

export interface UseInbox extends LiveInbox {
  /** Open pauses, newest first; empty until the first snapshot. */
  pauses: readonly Pause[];
  /** Presses a button of a pause, bound to the evidence that it shows. */
  decide(pause: Pause, actionId: string, more?: Omit<ResumeRequest, "action_id" | "pause_id">): Promise<Resuming>;
  claim(pause: Pause, seconds?: number): Promise<Claimed>;
  release(pause: Pause): Promise<Claimed>;
}

/** What waits for a person over all workflows, live, and what can be done about it. Brings no markup. */
export function useInbox(): UseInbox {
  const client = useHandrail();
  const store = useMemo(() => client.liveInbox(), [client]);
  const live = useSyncExternalStore(store.subscribe, store.getSnapshot, store.getSnapshot);
  return useMemo(
    () => ({
      ...live,
      pauses: live.inbox?.pauses ?? [],
      decide: (pause, actionId, more = {}) => {
        const bound = pause.evidence_digest ? { evidence_digest: pause.evidence_digest } : {};
        return client.resume(pause.trace_id, { ...bound, ...more, action_id: actionId, pause_id: pause.pause_id });
      },
      claim: (pause, seconds) => client.claim(pause.pause_id, seconds),
      release: (pause) => client.release(pause.pause_id),
    }),
    [client, live],
  );
}

const EMPTY: LiveWorkflow = {
  state: null,
  connection: { state: "closed", attempt: 0, delayMs: 0, reason: "" },
  error: null,
  progress: {},
};
const NOTHING = { subscribe: () => () => {}, getSnapshot: () => EMPTY };

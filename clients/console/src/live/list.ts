/** A list of workflows that asks again when there is news: of a row that is shown, or of a workflow that was accepted. */

import { BUNDLE_MEMBERS, type WorkflowSummary } from "@handrail/client";
import { useEffect } from "react";
import { hasEnded } from "../model/status.js";
import { client, queries } from "./client.js";

/** One request for many events, and under load one in so long. */
const QUIET_MS = 400;
const APART_MS = 2_000;
const KEY = { queryKey: ["runs"] };

export function useListLive(items: readonly WorkflowSummary[], ready: boolean): void {
  const ids = items
    .filter((each) => !hasEnded(each.status))
    .slice(0, BUNDLE_MEMBERS)
    .map((each) => each.trace_id)
    .join(" ");
  useEffect(() => {
    if (!ready) return;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | null = null;
    const again = () => {
      const since = Date.now() - (queries.getQueryCache().findAll(KEY)[0]?.state.dataUpdatedAt ?? 0);
      const wait = since < APART_MS ? Math.max(QUIET_MS, APART_MS - since) : QUIET_MS;
      timer ??= setTimeout(() => {
        timer = null;
        void queries.invalidateQueries(KEY);
      }, wait);
    };
    const options = {
      signal: abort.signal,
      started: true,
      // What happened before the stream was open, or while it was not, was not told.
      onConnection: ({ state }: { state: string }) => state === "live" && again(),
    };
    const follow = async () => {
      for await (const news of client.watchMany(ids ? ids.split(" ") : [], options)) {
        if (news.event_type !== "snapshot") again();
      }
    };
    follow().catch(() => {
      // the list is still right as of when it was asked for
    });
    return () => {
      abort.abort();
      if (timer !== null) clearTimeout(timer);
    };
  }, [ids, ready]);
}

/** React's side of what is live. */

import { useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { useStore } from "zustand";
import { type Desk, desk, deskHeardAt } from "./desk.js";
import { type Run, RunFeed } from "./run.js";

export function useDesk<T>(pick: (desk: Desk) => T): T {
  return useStore(desk, pick);
}

/** A workflow, followed as long as somebody uses it. */
export function useRun(traceId: string): { run: Run; feed: RunFeed } {
  const feed = useMemo(() => new RunFeed(traceId), [traceId]);
  useEffect(() => feed.hold(), [feed]);
  return { run: useStore(feed.store), feed };
}

/** After so long without a ping nobody may decide on what is shown. The server pings every 15 s. */
export const STALE_MS = 30_000;

/** Whether what is shown is too old to decide on, and from when it is. */
export function useStale(heardAt: () => number, over: boolean): { stale: boolean; asOf: number } {
  useNow(1000, !over);
  const asOf = heardAt();
  return { stale: !over && Date.now() - asOf > STALE_MS, asOf };
}

export const useDeskStale = (): { stale: boolean; asOf: number } => useStale(deskHeardAt, false);

const tickers = new Map<number, { listeners: Set<() => void>; timer: ReturnType<typeof setInterval>; now: number }>();

/** The time, renewed every `everyMs`; one timer for all who ask. Shows age, asks nobody. */
export function useNow(everyMs = 1000, on = true): number {
  const subscribe = useMemo(
    () => (listener: () => void) => {
      if (!on) return () => {};
      const ticker = tickers.get(everyMs) ?? started(everyMs);
      ticker.listeners.add(listener);
      return () => {
        ticker.listeners.delete(listener);
        if (ticker.listeners.size > 0) return;
        clearInterval(ticker.timer);
        tickers.delete(everyMs);
      };
    },
    [everyMs, on],
  );
  return useSyncExternalStore(subscribe, () => tickers.get(everyMs)?.now ?? rounded(everyMs));
}

function started(everyMs: number) {
  const ticker = {
    listeners: new Set<() => void>(),
    now: rounded(everyMs),
    timer: setInterval(() => {
      ticker.now = rounded(everyMs);
      for (const listener of [...ticker.listeners]) listener();
    }, everyMs),
  };
  tickers.set(everyMs, ticker);
  return ticker;
}

const rounded = (everyMs: number): number => Math.floor(Date.now() / everyMs) * everyMs;

/** What changes at any pace, followed at most once in `everyMs`. */
export function useCalm<T>(value: T, everyMs: number): T {
  const [calm, setCalm] = useState(value);
  const latest = useRef(value);
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  useEffect(() => {
    latest.current = value;
    if (value === calm) return;
    timer.current ??= setTimeout(() => {
      timer.current = null;
      setCalm(latest.current);
    }, everyMs);
  }, [value, calm, everyMs]);
  useEffect(
    () => () => {
      if (timer.current !== null) clearTimeout(timer.current);
      timer.current = null;
    },
    [],
  );
  return calm;
}

export function useMedia(query: string): boolean {
  const list = useMemo(() => window.matchMedia(query), [query]);
  return useSyncExternalStore(
    (listener) => {
      list.addEventListener("change", listener);
      return () => list.removeEventListener("change", listener);
    },
    () => list.matches,
  );
}

export const useWide = (): boolean => useMedia("(min-width: 1280px)");
export const useNarrow = (): boolean => useMedia("(max-width: 767px)");

export function useOnline(): boolean {
  const [online, setOnline] = useState(navigator.onLine);
  useEffect(() => {
    const look = () => setOnline(navigator.onLine);
    window.addEventListener("online", look);
    window.addEventListener("offline", look);
    return () => {
      window.removeEventListener("online", look);
      window.removeEventListener("offline", look);
    };
  }, []);
  return online;
}

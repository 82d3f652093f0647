/** New rows of a list, held back as long as somebody points at it, reads further down or has the focus in it. */

import { type FocusEvent, useEffect, useMemo, useState } from "react";

interface Row {
  trace_id: string;
  created_at: string;
}

interface Options {
  /** What the list is asked for: another question, another list. */
  key: string;
  /** Further pages are open. */
  reading: boolean;
  /** The rows are still those of the question before. */
  old: boolean;
}

const TOP_PX = 120;

/**
 * What to show of `all` (newest first), and how many newer rows wait for `show`. Rows that are held stay where they are,
 * also when the answer has moved on, and follow what is known of them. `hand` goes on what surrounds the rows, `reach` on what
 * surrounds them and whatever calls `show`: a pointer on its way there has not left.
 */
export function useHeldBack<T extends Row>(all: readonly T[], { key, reading, old }: Options) {
  const [pointed, setPointed] = useState(false);
  const [focused, setFocused] = useState(false);
  const scrolled = useScrolled();
  const busy = (pointed || focused || scrolled || reading) && !old && all.length > 0;
  const [held, setHeld] = useState<{ key: string; rows: readonly T[] } | null>(null);
  // While rendering, so that nothing newer is shown for a moment.
  if (busy && held?.key !== key) setHeld({ key, rows: all });
  if (!busy && held !== null) setHeld(null);
  const rows = busy && held?.key === key ? held.rows : null;
  const { items, waiting } = useMemo(() => (rows === null ? { items: all, waiting: 0 } : apart(rows, all)), [rows, all]);
  return {
    items,
    waiting,
    show: () => setHeld({ key, rows: all }),
    reach: {
      onPointerEnter: () => setPointed(true),
      onPointerLeave: () => setPointed(false),
    },
    hand: {
      onFocus: () => setFocused(true),
      onBlur: (event: FocusEvent) => setFocused(event.currentTarget.contains(event.relatedTarget as Node | null)),
    },
  };
}

export function apart<T extends Row>(held: readonly T[], all: readonly T[]): { items: readonly T[]; waiting: number } {
  const known = new Map(all.map((row) => [row.trace_id, row]));
  const ids = new Set(held.map((row) => row.trace_id));
  const newest = held[0]?.created_at ?? "";
  const older = all.filter((row) => !ids.has(row.trace_id) && row.created_at <= newest);
  const oldest = all.at(-1)?.created_at ?? "";
  // Missing within what was answered: it is not asked for any more. Missing below it: newer ones have pushed it off the page.
  const kept = held.flatMap((row) => known.get(row.trace_id) ?? (row.created_at < oldest ? row : []));
  const items = [...kept, ...older];
  return { items, waiting: all.length - older.length - [...ids].filter((id) => known.has(id)).length };
}

function useScrolled(): boolean {
  const [scrolled, setScrolled] = useState(window.scrollY > TOP_PX);
  useEffect(() => {
    const look = () => setScrolled(window.scrollY > TOP_PX);
    window.addEventListener("scroll", look, { passive: true });
    return () => window.removeEventListener("scroll", look);
  }, []);
  return scrolled;
}

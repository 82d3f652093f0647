/** New rows of a list, held back as long as somebody points at it, reads further down or has the focus in it. */

import { type FocusEvent, useEffect, useState } from "react";

interface Row {
  created_at: string;
}

const TOP_PX = 120;

/**
 * What to show of `all` (newest first), and how many newer rows wait for `show`. `hand` goes on what surrounds the rows.
 * `reading`: further pages are open.
 */
export function useHeldBack<T extends Row>(all: readonly T[], reading: boolean) {
  const [pointed, setPointed] = useState(false);
  const [focused, setFocused] = useState(false);
  const scrolled = useScrolled();
  const busy = pointed || focused || scrolled || reading;
  const newest = all[0]?.created_at ?? "";
  const [barrier, setBarrier] = useState<string | null>(null);
  // While rendering, so that nothing newer is shown for a moment.
  if (busy && barrier === null && newest) setBarrier(newest);
  if (!busy && barrier !== null) setBarrier(null);
  const items = busy && barrier !== null ? all.filter((row) => row.created_at <= barrier) : all;
  return {
    items,
    waiting: all.length - items.length,
    show: () => setBarrier(newest),
    hand: {
      onPointerEnter: () => setPointed(true),
      onPointerLeave: () => setPointed(false),
      onFocus: () => setFocused(true),
      onBlur: (event: FocusEvent) => setFocused(event.currentTarget.contains(event.relatedTarget as Node | null)),
    },
  };
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

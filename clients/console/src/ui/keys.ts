/** Keys that work everywhere. Single keys do nothing while somebody types, and can be switched off. */

import { useEffect, useRef } from "react";
import { usePreferences } from "../live/preferences.js";
import { go, to } from "../model/router.js";

const PLACES: Record<string, string[]> = { i: ["inbox"], r: ["workflows"], d: ["dead-letters"], a: ["agents"], p: ["policies"], s: ["start"], e: ["dev"] };
const G_MS = 1200;

/** Whether a key belongs to a field, or to a dialog that is open. */
export function isTyping(event: KeyboardEvent): boolean {
  const target = event.target as HTMLElement | null;
  return Boolean(target?.closest?.("input, textarea, select, [contenteditable=true], dialog[open], [popover]:popover-open"));
}

export function useShortcuts(open: { palette: () => void; sheet: () => void }): void {
  const held = useRef(open);
  held.current = open;
  useEffect(() => {
    let g = 0;
    const onKey = (event: KeyboardEvent) => {
      if ((event.metaKey || event.ctrlKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        held.current.palette();
        return;
      }
      if (!single(event)) return;
      if (Date.now() - g < G_MS && PLACES[event.key]) {
        event.preventDefault();
        g = 0;
        go(to(PLACES[event.key] as string[]));
        return;
      }
      g = event.key === "g" ? Date.now() : 0;
      if (event.key === "?") {
        event.preventDefault();
        held.current.sheet();
      } else if (event.key === "/") {
        const field = document.querySelector<HTMLElement>("[data-filter]");
        if (field) {
          event.preventDefault();
          field.focus();
        }
      } else if (event.key === "j" || event.key === "k") {
        moveRow(event.key === "j" ? 1 : -1) && event.preventDefault();
      }
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, []);
}

function single(event: KeyboardEvent): boolean {
  return !(event.metaKey || event.ctrlKey || event.altKey || event.defaultPrevented || isTyping(event)) && usePreferences.getState().singleKeys;
}

/** Handles single keys of a page. Return true where the key was meant. */
export function useKeys(handle: (key: string, event: KeyboardEvent) => boolean | void): void {
  const held = useRef(handle);
  held.current = handle;
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (single(event) && held.current(event.key, event) === true) event.preventDefault();
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, []);
}

/** Moves the focus among `[data-row]`. */
function moveRow(by: number): boolean {
  const rows = [...document.querySelectorAll<HTMLElement>("[data-row]")];
  if (rows.length === 0) return false;
  const at = rows.findIndex((row) => row === document.activeElement || row.contains(document.activeElement));
  const next = rows[at === -1 ? 0 : Math.min(rows.length - 1, Math.max(0, at + by))];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
  return true;
}

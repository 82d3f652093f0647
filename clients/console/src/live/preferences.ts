/** What a person chose for this browser. Kept in local storage; a browser without one forgets, nothing else. */

import { create } from "zustand";

export type Theme = "system" | "light" | "dark";
export type View = "auto" | "graph" | "outline";

interface Preferences {
  theme: Theme;
  /** Who acts: recorded with every decision, not proven. */
  actor: string;
  view: View;
  singleKeys: boolean;
  follow: boolean;
  set(changes: Partial<Omit<Preferences, "set">>): void;
}

const KEYS = { theme: "handrail.theme", actor: "handrail.actor", view: "handrail.view", singleKeys: "handrail.keys" } as const;

function read(name: keyof typeof KEYS): string | null {
  try {
    return localStorage.getItem(KEYS[name]);
  } catch {
    return null;
  }
}

function write(name: keyof typeof KEYS, value: string): void {
  try {
    localStorage.setItem(KEYS[name], value);
  } catch {
    // private windows may refuse: then it holds for this page
  }
}

function oneOf<T extends string>(value: string | null, allowed: readonly T[], otherwise: T): T {
  return allowed.find((each) => each === value) ?? otherwise;
}

export const usePreferences = create<Preferences>((set) => ({
  theme: oneOf(read("theme"), ["system", "light", "dark"], "system"),
  actor: read("actor") || "local",
  view: oneOf(read("view"), ["auto", "graph", "outline"], "auto"),
  singleKeys: read("singleKeys") !== "off",
  follow: false,
  set(changes) {
    set(changes);
    if (changes.theme !== undefined) {
      write("theme", changes.theme);
      if (changes.theme === "system") delete document.documentElement.dataset.theme;
      else document.documentElement.dataset.theme = changes.theme;
    }
    if (changes.actor !== undefined) write("actor", changes.actor);
    if (changes.view !== undefined) write("view", changes.view);
    if (changes.singleKeys !== undefined) write("singleKeys", changes.singleKeys ? "on" : "off");
  },
}));

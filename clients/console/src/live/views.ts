/** Filters that a person gave a name: the address of a list, kept in this browser. */

import { create } from "zustand";

export interface SavedView {
  name: string;
  /** As in the address, sorted, without what only points at one row. */
  query: string;
}

type Page = "inbox" | "workflows";
const KEY = "handrail.views";
const MOST = 20;
const PASSING = ["pause", "cursor"];

export function queryOf(query: URLSearchParams): string {
  const kept = new URLSearchParams([...query].filter(([name, value]) => value && !PASSING.includes(name)));
  kept.sort();
  return kept.toString();
}

interface Views {
  of: Readonly<Record<Page, readonly SavedView[]>>;
  save(page: Page, view: SavedView): void;
  forget(page: Page, name: string): void;
}

export const useViews = create<Views>((set, get) => {
  const put = (page: Page, views: readonly SavedView[]) => {
    const of = { ...get().of, [page]: views.slice(-MOST) };
    set({ of });
    try {
      localStorage.setItem(KEY, JSON.stringify(of));
    } catch {
      // a private window: they hold for this page
    }
  };
  return {
    of: stored(),
    save: (page, view) => put(page, [...get().of[page].filter((each) => each.name !== view.name), view]),
    forget: (page, name) => put(page, get().of[page].filter((each) => each.name !== name)),
  };
});

function stored(): Record<Page, SavedView[]> {
  const none = { inbox: [], workflows: [] };
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "{}") as Partial<Record<Page, unknown>>;
    const sound = (all: unknown): SavedView[] =>
      (Array.isArray(all) ? all : []).filter((each: Partial<SavedView>) => typeof each?.name === "string" && typeof each.query === "string").slice(-MOST);
    return { inbox: sound(found.inbox), workflows: sound(found.workflows) };
  } catch {
    return none;
  }
}

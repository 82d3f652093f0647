/**
 * Decisions that are half made: what was chosen and typed for a pause is there when one looks at it again, also after the page was
 * loaded anew (a phone lets a page in the background go), until the pause is closed. Kept by this tab alone, and gone with it.
 */

import { useStore } from "zustand";
import { createJSONStorage, persist } from "zustand/middleware";
import { createStore } from "zustand/vanilla";
import type { Raw } from "../model/forms.js";

export interface Draft {
  /** The option that is open. */
  chosen: string | null;
  comment: string;
  /** By action_id: what its form holds. */
  raw: Readonly<Record<string, Raw>>;
}

const NONE: Draft = { chosen: null, comment: "", raw: {} };
/** The oldest are let go: a window that stays open for weeks forgets, too. */
const MOST = 100;

type Drafts = Readonly<Record<string, Draft>>;

const drafts = createStore<Drafts>()(
  persist((): Drafts => ({}), { name: "handrail.drafts", version: 1, storage: createJSONStorage(() => sessionStorage) }),
);

/** What is there for this pause, and how to change it. */
export function useDraft(pauseId: string): [Draft, (change: (now: Draft) => Partial<Draft>) => void] {
  const draft = useStore(drafts, (all) => all[pauseId] ?? NONE);
  return [draft, (change) => write(pauseId, change)];
}

function write(pauseId: string, change: (now: Draft) => Partial<Draft>): void {
  const { [pauseId]: now = NONE, ...others } = drafts.getState();
  const kept = Object.entries(others).slice(-(MOST - 1));
  drafts.setState({ ...Object.fromEntries(kept), [pauseId]: { ...now, ...change(now) } }, true);
}

/** The pause is closed. */
export function dropDraft(pauseId: string): void {
  const { [pauseId]: gone, ...others } = drafts.getState();
  if (gone) drafts.setState(others, true);
}

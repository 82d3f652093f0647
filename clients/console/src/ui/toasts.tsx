/** Short news in a corner. What draws them is fetched with the first. */

import { useStore } from "zustand";
import { createStore } from "zustand/vanilla";
import { part, Place } from "./part.js";

export interface News {
  id: number;
  title: string;
  detail: string;
  bad: boolean;
}

export const news = createStore<{ list: readonly News[] }>(() => ({ list: [] }));
let next = 1;

export function toast(title: string, detail = "", bad = false): void {
  news.setState(({ list }) => ({ list: [...list.slice(-3), { id: next++, title, detail, bad }] }));
}

const ToastList = part(() => import("./toast-list.js"));

export function Toasts() {
  const any = useStore(news, ({ list }) => list.length > 0);
  return any ? (
    <Place>
      <ToastList />
    </Place>
  ) : null;
}

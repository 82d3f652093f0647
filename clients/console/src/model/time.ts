/** Times in words. Everything takes `now`, so that it can be tested and frozen. */

/** `3 s`, `4 min`, `2 h 05`, `3 d`. */
export function duration(ms: number): string {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  const min = Math.floor(s / 60);
  if (min < 60) return `${min} min`;
  const h = Math.floor(min / 60);
  if (h < 48) return `${h} h ${String(min % 60).padStart(2, "0")}`;
  return `${Math.floor(h / 24)} d`;
}

/** `8 s ago`, or `in 4 min`. */
export function relative(at: string | null | undefined, now: number): string {
  const then = at ? Date.parse(at) : Number.NaN;
  if (Number.isNaN(then)) return "";
  const gap = now - then;
  if (Math.abs(gap) < 1000) return "now";
  const text = duration(Math.abs(gap) < 10_000 ? Math.round(Math.abs(gap) / 1000) * 1000 : Math.abs(gap)).replace(".0 s", " s");
  return gap > 0 ? `${text} ago` : `in ${text}`;
}

/** `12:04:31`, in the reader's zone. */
export function clock(at: string | number | null | undefined): string {
  if (at === null || at === undefined) return "";
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleTimeString("en-GB", { hour12: false });
}

/** `2026-11-20 12:04:31`, in the reader's zone. */
export function absolute(at: string | null | undefined): string {
  if (!at) return "";
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? String(at) : `${date.toLocaleDateString("sv-SE")} ${clock(at)}`;
}

/** Addresses of the console, below `/console`. The address is the state: a page can be sent to a colleague as it is. */

import { type AnchorHTMLAttributes, type MouseEvent, type ReactNode, useSyncExternalStore } from "react";

const BASE = "/console";
const CHANGED = "handrail:address";

export interface Address {
  /** Below the base, decoded: `["workflows", "req_1"]`. */
  parts: readonly string[];
  query: URLSearchParams;
}

let last: { href: string; address: Address } | null = null;

export function current(): Address {
  const { pathname, search } = window.location;
  const href = pathname + search;
  if (last?.href !== href) {
    const below = pathname.startsWith(BASE) ? pathname.slice(BASE.length) : pathname;
    last = { href, address: { parts: below.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(search) } };
  }
  return last.address;
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** `/console/workflows/req_1?tab=events`. Values that are empty are left out. */
export function to(parts: readonly string[], query: Record<string, string | null | undefined> = {}): string {
  const search = new URLSearchParams(Object.entries(query).filter((pair): pair is [string, string] => Boolean(pair[1])));
  const text = search.toString();
  return `${BASE}/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

export function go(href: string, how: "push" | "replace" = "push"): void {
  if (how === "push") window.history.pushState(null, "", href);
  else window.history.replaceState(null, "", href);
  window.dispatchEvent(new Event(CHANGED));
}

function subscribe(listener: () => void): () => void {
  window.addEventListener("popstate", listener);
  window.addEventListener(CHANGED, listener);
  return () => {
    window.removeEventListener("popstate", listener);
    window.removeEventListener(CHANGED, listener);
  };
}

export function useAddress(): Address {
  return useSyncExternalStore(subscribe, current);
}

/** A link within the console. New tabs and windows work as with any link. */
export function Link({ href, onClick, children, ...rest }: AnchorHTMLAttributes<HTMLAnchorElement> & { href: string; children: ReactNode }) {
  const follow = (event: MouseEvent<HTMLAnchorElement>) => {
    onClick?.(event);
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    go(href);
  };
  return (
    <a href={href} onClick={follow} {...rest}>
      {children}
    </a>
  );
}

/** Sets single parameters of the address, keeps the others. */
export function setQuery(changes: Record<string, string | null>, how: "push" | "replace" = "replace"): void {
  const { parts, query } = current();
  const next = Object.fromEntries(query);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null || value === "") delete next[name];
    else next[name] = value;
  }
  go(to(parts, next), how);
}

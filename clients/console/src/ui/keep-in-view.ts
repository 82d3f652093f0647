import { type RefObject, useEffect } from "react";

/** Keeps the current one of a row of links in sight, also where the row becomes narrower. */
export function useCurrentInView(row: RefObject<HTMLElement | null>, ...changes: readonly unknown[]): void {
  useEffect(() => {
    const show = () => row.current?.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
    show();
    window.addEventListener("resize", show);
    return () => window.removeEventListener("resize", show);
    // biome-ignore lint: whoever calls says what changes the row
  }, [row, ...changes]);
}

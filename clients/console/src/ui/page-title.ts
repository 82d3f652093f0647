import { useEffect } from "react";

import { useDesk } from "../live/hooks.js";
import { text } from "../text.js";

/** Names the tab after the page. */
export function usePageTitle(title: string): void {
  const waiting = useDesk((desk) => desk.pauses?.length ?? 0);
  useEffect(() => {
    document.title = text.title(title, waiting);
  }, [title, waiting]);
}

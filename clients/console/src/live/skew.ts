/**
 * Whether the server holds another console than this page: asked when the connection comes back, for a new server cuts it,
 * and when a part of this page cannot be loaded, for it may be gone from there.
 */

import { useEffect, useState } from "react";
import { desk } from "./desk.js";

/** The script that this page began with; null in development, where there is none to compare. */
function loaded(): string | null {
  const script = document.querySelector<HTMLScriptElement>('script[type="module"][src*="/assets/"]');
  return script ? new URL(script.src).pathname : null;
}

async function isAnother(): Promise<boolean> {
  const mine = loaded();
  if (mine === null) return false;
  try {
    const answer = await fetch("/console/", { cache: "no-store" });
    const page = await answer.text();
    const found = /<script[^>]+src="([^"]*\/assets\/[^"]+)"/.exec(page)?.[1];
    return answer.ok && found !== undefined && new URL(found, window.location.href).pathname !== mine;
  } catch {
    return false; // gone again: the next connection asks
  }
}

export function useSkew(): boolean {
  const [another, setAnother] = useState(false);
  useEffect(() => {
    let on = true;
    let broken = false;
    const ask = () => void isAnother().then((found) => on && found && setAnother(true));
    window.addEventListener("vite:preloadError", ask);
    const stop = desk.subscribe(({ connection }) => {
      if (connection.state === "waiting") broken = true;
      if (connection.state !== "live" || !broken) return;
      broken = false;
      ask();
    });
    return () => {
      on = false;
      stop();
      window.removeEventListener("vite:preloadError", ask);
    };
  }, []);
  return another;
}

/** What screen readers are told: polite news are batched to one sentence per 2 s; only a pause in front of you interrupts. */

import { useStore } from "zustand";
import { createStore } from "zustand/vanilla";

const spoken = createStore(() => ({ polite: "", assertive: "" }));
const BATCH_MS = 2000;
let waiting: string[] = [];
let timer: ReturnType<typeof setTimeout> | null = null;

export function announce(sentence: string): void {
  if (!waiting.includes(sentence)) waiting.push(sentence);
  timer ??= setTimeout(() => {
    timer = null;
    spoken.setState({ polite: waiting.join(", ") });
    waiting = [];
  }, BATCH_MS);
}

export function interrupt(sentence: string): void {
  spoken.setState({ assertive: sentence });
}

export function LiveRegions() {
  const { polite, assertive } = useStore(spoken);
  return (
    <>
      <div className="visually-hidden" role="status" aria-live="polite" data-testid="polite">
        {polite}
      </div>
      <div className="visually-hidden" role="alert" aria-live="assertive" data-testid="assertive">
        {assertive}
      </div>
    </>
  );
}

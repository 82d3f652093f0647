/** From a callback to an async iterator, one item at a time: the producer waits until its item was taken. */

interface Waiting<T> {
  item: T;
  taken: () => void;
  lost: (reason: unknown) => void;
}

export async function* channel<T>(
  produce: (receive: (item: T) => Promise<void>, signal: AbortSignal) => Promise<void>,
  signal?: AbortSignal,
): AsyncGenerator<T, void, undefined> {
  const abort = new AbortController();
  const items: Waiting<T>[] = [];
  let wake = () => {};
  let end: { error: unknown } | "well" | null = null;
  const stop = () => abort.abort(signal?.reason);
  const receive = (item: T) =>
    new Promise<void>((taken, lost) => {
      if (abort.signal.aborted) return lost(abort.signal.reason);
      items.push({ item, taken, lost });
      wake();
    });
  abort.signal.addEventListener("abort", () => {
    for (const waiting of items.splice(0)) waiting.lost(abort.signal.reason);
  });
  signal?.addEventListener("abort", stop, { once: true });
  if (signal?.aborted) stop();
  const producing = produce(receive, abort.signal).then(
    () => {
      end = "well";
      wake();
    },
    (error: unknown) => {
      end = { error };
      wake();
    },
  );
  try {
    for (;;) {
      const next = items.shift();
      if (next !== undefined) {
        try {
          yield next.item;
        } finally {
          next.taken(); // also where the loop was left: the producer must not wait for ever
        }
      } else if (end !== null) {
        break;
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
    const how = end as { error: unknown } | "well";
    if (how !== "well") throw how.error;
  } finally {
    signal?.removeEventListener("abort", stop);
    abort.abort();
    await producing;
  }
}

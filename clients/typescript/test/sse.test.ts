import { createParser } from "eventsource-parser";
import { expect, test } from "vitest";
import { type Frame, FrameParser } from "../src/sse.js";

function ours(pieces: string[]): { frames: Frame[]; retries: number[] } {
  const frames: Frame[] = [];
  const retries: number[] = [];
  const parser = new FrameParser({ frame: (f) => frames.push(f), retry: (ms) => retries.push(ms) });
  for (const piece of pieces) parser.feed(piece);
  return { frames, retries };
}

function theirs(pieces: string[]): { frames: Frame[]; retries: number[] } {
  const frames: Frame[] = [];
  const retries: number[] = [];
  const parser = createParser({
    onEvent: (e) => frames.push({ event: e.event || "message", data: e.data, id: e.id ?? null }),
    onRetry: (ms) => retries.push(ms),
  });
  for (const piece of pieces) parser.feed(piece);
  return { frames, retries };
}

function random(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const LINES = ["data: {}", "data:x", "data", "id: 7", "id", "event: ping", "retry: 2000", "retry: x", ": comment", "junk: 1", "", "", ""];

test("random streams, cut anywhere, are understood as the published parser does", () => {
  for (let seed = 0; seed < 2000; seed++) {
    const rng = random(seed);
    const end = ["\n", "\r\n", "\r"][Math.floor(rng() * 3)] as string;
    let text = "";
    for (let i = 0; i < 12; i++) text += LINES[Math.floor(rng() * LINES.length)] + end;
    const pieces: string[] = [];
    while (text) {
      const size = 1 + Math.floor(rng() * 9);
      pieces.push(text.slice(0, size));
      text = text.slice(size);
    }
    // A stream that ends with a lone CR may go on with LF: both wait, one of them for longer.
    const expected = theirs([...pieces, "\n"]);
    expect(ours([...pieces, "\n"]), JSON.stringify(pieces)).toEqual(expected);
  }
});

test("a byte order mark at the beginning is passed over, an unfinished frame waits", () => {
  expect(ours(["\uFEFFdata: a\n", "\ndata: b\n"]).frames).toEqual([{ event: "message", data: "a", id: null }]);
});

test("several data lines are one text", () => {
  expect(ours(["data: a\ndata: b\n\n"]).frames[0]?.data).toBe("a\nb");
});

/**
 * Server-sent events out of text that comes in pieces: WHATWG HTML section 9.2.6, without the reconnecting.
 *
 * Not EventSource: it hides statuses and headers, keeps a position of its own and does not exist in Node.js 20. Not a
 * package: this client has no dependencies. A test compares it with `eventsource-parser` on random input.
 */

export interface Frame {
  event: string;
  data: string;
  /** The id of this frame, null where it has none. */
  id: string | null;
}

export interface FrameSink {
  frame(frame: Frame): void;
  /** The server's wish how long to wait before connecting anew, in ms. */
  retry(ms: number): void;
}

/** Call `feed` with each piece of text; whole frames go to the sink, an unfinished one waits for its rest. */
export class FrameParser {
  #rest = "";
  #begun = false;
  #afterCr = false;
  #event = "";
  #data: string[] = [];
  #id: string | null = null;

  constructor(readonly sink: FrameSink) {}

  feed(piece: string): void {
    if (!piece) return;
    let text = piece;
    if (!this.#begun) {
      this.#begun = true;
      if (text.startsWith("\uFEFF")) text = text.slice(1);
    }
    // CR LF may be cut between two pieces: the LF belongs to the line that CR has ended.
    if (this.#afterCr && text.startsWith("\n")) text = text.slice(1);
    this.#afterCr = piece.endsWith("\r");
    const lines = (this.#rest + text).split(/\r\n|\n|\r/);
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#line(line);
  }

  #line(line: string): void {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    switch (field) {
      case "event":
        this.#event = value;
        return;
      case "data":
        this.#data.push(value);
        return;
      case "id":
        if (!value.includes("\0")) this.#id = value;
        return;
      case "retry":
        if (/^[0-9]+$/.test(value)) this.sink.retry(Number(value));
    }
  }

  #dispatch(): void {
    const frame = { event: this.#event || "message", data: this.#data.join("\n"), id: this.#id };
    const whole = this.#data.length > 0;
    this.#event = "";
    this.#data = [];
    this.#id = null;
    if (whole) this.sink.frame(frame);
  }
}

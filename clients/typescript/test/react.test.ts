// @vitest-environment happy-dom
import { act, cleanup, configure, renderHook, waitFor } from "@testing-library/react";
import { createElement, type ReactNode } from "react";
import { afterEach, expect, test } from "vitest";
import { Client, type WorkflowEvent, WorkflowView } from "../src/index.js";
import { HandrailProvider, useInbox, useWorkflow } from "../src/react.js";
import { events } from "./recordings.js";

configure({ asyncUtilTimeout: 10_000 }); // a second may pass while this process only waits for a core

const STORY = events("onboarding-manual-sku");

/** Handrail behind `fetch`: a state, and streams that the test writes into. */
class Behind {
  readonly requests: { url: string; init: RequestInit }[] = [];
  readonly streams: { write(text: string): void; breakOff(): void; closed: boolean }[] = [];
  visible = 4;

  readonly fetch = async (input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> => {
    const url = String(input);
    this.requests.push({ url, init });
    if (url.endsWith("/state")) return Response.json(new WorkflowView("manual").applyAll(STORY.slice(0, this.visible)).state());
    if (url.endsWith("/events")) return this.#stream(init);
    if (init.method === "POST") return Response.json({ trace_id: "manual", pause_id: "p", action_id: "A", status: "RESUMING" }, { status: 202 });
    const gone = { type: "/problems/workflow-not-found", status: 404, detail: "Not here." };
    return Response.json(gone, { status: 404, headers: { "content-type": "application/problem+json" } });
  };

  #stream(init: RequestInit): Response {
    const encoder = new TextEncoder();
    let control!: ReadableStreamDefaultController<Uint8Array>;
    const body = new ReadableStream<Uint8Array>({ start: (c) => void (control = c) });
    const stream = {
      closed: false,
      write: (text: string) => control.enqueue(encoder.encode(text)),
      breakOff: () => control.error(new TypeError("network")),
    };
    init.signal?.addEventListener("abort", () => {
      stream.closed = true;
      try {
        control.error(new DOMException("aborted", "AbortError"));
      } catch {}
    });
    this.streams.push(stream);
    stream.write("retry: 60000\n\n");
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  }

  publish(...published: WorkflowEvent[]): void {
    for (const event of published) {
      this.streams.at(-1)?.write(`id: ${event.seq}\nevent: ${event.event_type}\ndata: ${JSON.stringify(event)}\n\n`);
    }
  }
}

function hook<T>(behind: Behind, use: () => T) {
  const client = new Client({ url: "http://handrail.test", fetch: behind.fetch as typeof fetch, retries: 0 });
  const wrapper = ({ children }: { children?: ReactNode }) => createElement(HandrailProvider, { client }, children);
  return renderHook(use, { wrapper });
}

afterEach(cleanup);

test("useWorkflow paints the snapshot, follows the stream and ends with the workflow", async () => {
  const behind = new Behind();
  const { result } = hook(behind, () => useWorkflow("manual"));
  expect(result.current.state).toBeNull();
  expect(result.current.connection.state).toBe("connecting");
  await waitFor(() => expect(result.current.state?.cursor).toBe("4"));
  await waitFor(() => expect(result.current.connection.state).toBe("live"));
  await act(async () => behind.publish(...STORY.slice(4, 18)));
  await waitFor(() => expect(result.current.state?.status).toBe("PAUSED_HITL"));
  expect(result.current.state?.pauses[0]?.available_resolutions.length).toBe(3);
  await act(async () => behind.publish(...STORY.slice(18)));
  await waitFor(() => expect(result.current.state?.status).toBe("COMPLETED"));
  await waitFor(() => expect(result.current.connection.state).toBe("closed"));
});

test("many events are one render, not many", async () => {
  const behind = new Behind();
  let renders = 0;
  const { result } = hook(behind, () => {
    renders += 1;
    return useWorkflow("manual");
  });
  await waitFor(() => expect(result.current.connection.state).toBe("live"));
  const before = renders;
  await act(async () => behind.publish(...STORY.slice(4, 17)));
  await waitFor(() => expect(result.current.state?.cursor).toBe("17"));
  expect(renders - before).toBeLessThan(6);
});

test("a tab that comes back tries at once instead of waiting for its turn", async () => {
  const behind = new Behind();
  const { result } = hook(behind, () => useWorkflow("manual"));
  await waitFor(() => expect(result.current.connection.state).toBe("live"));
  await act(async () => behind.streams[0]?.breakOff());
  await waitFor(() => expect(result.current.connection.state).toBe("waiting"));
  expect(result.current.connection.delayMs).toBeGreaterThan(10_000);
  expect(result.current.state?.cursor).toBe("4");
  await act(async () => void document.dispatchEvent(new Event("visibilitychange")));
  await waitFor(() => expect(behind.streams.length).toBe(2));
  await waitFor(() => expect(result.current.connection.state).toBe("live"));
  expect(new Headers(behind.requests.at(-1)?.init.headers).get("last-event-id")).toBe("4");
});

test("a workflow that is not there is an error and not a spinner for ever", async () => {
  const behind = new Behind();
  const { result } = hook(behind, () => useWorkflow("manual"));
  const missing = hook(new (class extends Behind {
    override readonly fetch = async () =>
      Response.json({ type: "/problems/workflow-not-found", status: 404, detail: "Not here." }, {
        status: 404, headers: { "content-type": "application/problem+json" },
      });
  })(), () => useWorkflow("gone"));
  await waitFor(() => expect(missing.result.current.error?.message).toContain("workflow-not-found"));
  expect(missing.result.current.connection.state).toBe("closed");
  expect(result.current.error).toBeNull();
});

test("unmounting lets go of the connection; no trace id watches nothing", async () => {
  const behind = new Behind();
  const { result, unmount } = hook(behind, () => useWorkflow("manual"));
  await waitFor(() => expect(result.current.connection.state).toBe("live"));
  unmount();
  await waitFor(() => expect(behind.streams[0]?.closed).toBe(true));
  const asked = behind.requests.length;
  expect(hook(behind, () => useWorkflow(null)).result.current.state).toBeNull();
  expect(behind.requests.length).toBe(asked);
});

test("useInbox shows what waits and decides it, bound to the evidence that was shown", async () => {
  const behind = new Behind();
  const { result } = hook(behind, () => useInbox());
  expect(result.current.pauses).toEqual([]);
  await waitFor(() => expect(result.current.connection.state).toBe("live"));
  const paused = STORY[17] as WorkflowEvent;
  const items = JSON.stringify({ items: [paused], truncated: false });
  await act(async () => behind.streams[0]?.write(`event: snapshot\ndata: ${items}\n\n`));
  await waitFor(() => expect(result.current.pauses.length).toBe(1));
  const pause = result.current.pauses[0];
  if (pause === undefined) throw new Error("Expected a pause.");
  await act(async () => void (await result.current.decide(pause, "RES_MANUAL_SKU", { input: "https://v.example" })));
  const sent = behind.requests.at(-1);
  expect(sent?.url).toBe("http://handrail.test/workflows/manual/resume");
  expect(JSON.parse(String(sent?.init.body))).toEqual({
    action_id: "RES_MANUAL_SKU",
    pause_id: pause.pause_id,
    evidence_digest: pause.evidence_digest,
    input: "https://v.example",
  });
});

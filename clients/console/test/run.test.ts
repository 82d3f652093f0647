import type { Client, Update, WatchOptions, WorkflowEvent } from "@handrail/client";
import { WorkflowView } from "@handrail/client";
import { expect, test } from "vitest";
import { events } from "../../typescript/test/recordings.js";
import { RunFeed } from "../src/live/run.js";

const story = events("onboarding-abort");
const trace = story[0]?.trace_id ?? "";

/** A server that begins with a snapshot at `from`, then sends the rest; the journal has everything. */
function serving(from: number): Client {
  const made = {
    async *watch(_: string, __: WatchOptions): AsyncGenerator<Update> {
      const view = new WorkflowView(trace).applyAll(story.slice(0, from));
      yield { event: { event_type: "snapshot", trace_id: trace, seq: from }, view };
      for (const event of story.slice(from)) {
        view.apply(event);
        yield { event, view };
      }
    },
    async journal(_: string, { after = 0, limit = 1000 }: { after?: number; limit?: number }) {
      return { items: story.filter((event) => event.seq > after).slice(0, limit), next_cursor: null };
    },
  };
  return made as unknown as Client;
}

const until = async (condition: () => boolean) => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
};

test.each([0, 1, 12, story.length])("all events are there once, in order, after a snapshot at %i", async (from) => {
  const feed = new RunFeed(trace, serving(from));
  const release = feed.hold();
  await until(() => feed.store.getState().events.length === story.length && feed.store.getState().whole);
  const { events: seen, state } = feed.store.getState();
  expect(seen.map((event: WorkflowEvent) => event.seq)).toEqual(story.map((event) => event.seq));
  expect(state).toEqual(new WorkflowView(trace).applyAll(story).state());
  release();
});

/** One workflow: live, with what needs a person in front. */

import type { NodeView, Pause, WorkflowEvent, WorkflowState } from "@handrail/client";
import { Problem } from "@handrail/client";
import { Tabs } from "radix-ui";
import { useEffect, useMemo, useRef, useState } from "react";
import { createPortal } from "react-dom";
import { NodePanel } from "../graph/node-panel.js";
import { Outline } from "../graph/outline.js";
import { Intervention } from "../intervene/intervention.js";
import { useDesk, useNarrow, useRun, useStale, useWide } from "../live/hooks.js";
import { usePreferences } from "../live/preferences.js";
import type { Run, RunFeed } from "../live/run.js";
import { setQuery, useAddress } from "../model/router.js";
import { hasEnded } from "../model/status.js";
import { clock } from "../model/time.js";
import { text } from "../text.js";
import { Pill } from "../ui/connection.js";
import { useKeys } from "../ui/keys.js";
import { part, Place } from "../ui/part.js";
import { Empty, Failed, Skeleton } from "../ui/parts.js";
import { usePageTitle } from "../ui/page-title.js";
import { RunHead } from "./run-head.js";
import { useAnnouncedRun } from "./run-announce.js";

const Picture = part(() => import("../graph/picture.js"));
const EventsTab = part(() => import("./run-events.js"));
const AuditTab = part(() => import("./run-audit.js"));

export default function RunPage({ traceId }: { traceId: string }) {
  const { run, feed } = useRun(traceId);
  const title = run.state?.intent || run.state?.blueprint || traceId;
  usePageTitle(title);
  const ended = run.state ? hasEnded(run.state.status) : false;
  const { stale, asOf } = useStale(() => feed.heardAt, ended || run.error !== null);
  return (
    <div className="page run">
      <RunPill run={run} stale={stale && run.state !== null} ended={ended} />
      {run.error ? <RunError error={run.error} again={() => feed.again()} /> : null}
      {stale && run.state ? (
        <p className="banner" data-tone="bad" role="alert">
          {text.banner.stale(clock(asOf))}
        </p>
      ) : null}
      {run.state ? <Shown run={run} state={run.state} feed={feed} stale={stale} title={title} /> : run.error ? null : <Skeleton lines={6} />}
    </div>
  );
}

function RunPill({ run, stale, ended }: { run: Run; stale: boolean; ended: boolean }) {
  const [place, setPlace] = useState<HTMLElement | null>(null);
  useEffect(() => setPlace(document.getElementById("run-pill")), []);
  const desk = useDesk((now) => now.connection);
  // The server has answered: that it refused says nothing against the connection.
  const connection = run.error instanceof Problem ? desk : run.connection;
  return place ? createPortal(<Pill connection={connection} stale={stale} over={ended} seq={run.state?.cursor} />, place) : null;
}

function RunError({ error, again }: { error: Error; again: () => void }) {
  if (error instanceof Problem && error.status === 404) {
    return (
      <Empty title={text.run.notFound}>
        <p>{text.run.notFoundHint}</p>
      </Empty>
    );
  }
  return <Failed error={error} again={again} />;
}

type Tab = "graph" | "intervene" | "events" | "audit";
const TABS: readonly Tab[] = ["graph", "intervene", "events", "audit"];

function Shown(props: { run: Run; state: WorkflowState; feed: RunFeed; stale: boolean; title: string }) {
  const { run, state, feed, stale, title } = props;
  const { query } = useAddress();
  const wide = useWide();
  const pauses = usePausesShown(state, run.events);
  const asked = query.get("tab") as Tab | null;
  // What needs a person comes first where there is no room for both; decided once, so that nothing moves under a hand.
  const [first] = useState<Tab>(() => (state.pauses.length > 0 && !wide ? "intervene" : "graph"));
  const tab: Tab = asked && TABS.includes(asked) ? asked : first;
  const selected = query.get("node");
  const node = state.nodes.find((each) => each.id === selected) ?? null;
  const current = pauses.find((each) => each.pause.pause_id === query.get("pause")) ?? pauses.find((each) => each.open) ?? pauses[0] ?? null;
  const added = useMemo(() => addedNodes(run.events), [run.events]);
  useAnnouncedRun(state);
  const openPause = () => setQuery({ tab: wide ? "graph" : "intervene", node: null }, "push");
  useKeys((key) => {
    if (key !== "i" || state.pauses.length === 0) return;
    openPause();
    requestAnimationFrame(() => document.querySelector<HTMLElement>(".intervention h2")?.focus());
    return true;
  });
  const panel = node ? (
    <NodePanel node={node} state={state} events={run.events} progress={run.progress[node.id]} onClose={() => closePanel(node.id)} />
  ) : null;
  const intervention = current ? <Pauses current={current} all={pauses} stale={stale} title={title} cursor={state.cursor} feed={feed} /> : null;
  const side = wide ? (panel ?? intervention) : panel;
  return (
    <>
      <RunHead state={state} title={title} stale={stale} />
      {state.pauses.length > 0 && !(wide && tab === "graph" && !panel) && tab !== "intervene" ? (
        <NeedsYou pauses={state.pauses} open={openPause} />
      ) : null}
      <Tabs.Root value={tab} onValueChange={(next) => setQuery({ tab: next, node: null })}>
        <Tabs.List className="tabs" aria-label={title}>
          <Tabs.Trigger value="graph">{text.run.tabs.graph}</Tabs.Trigger>
          {pauses.length > 0 ? (
            <Tabs.Trigger value="intervene">
              {tabName(current?.pause)}
              {state.pauses.length > 0 ? <span className="count">{state.pauses.length}</span> : null}
            </Tabs.Trigger>
          ) : null}
          <Tabs.Trigger value="events">{text.run.tabs.events}</Tabs.Trigger>
          <Tabs.Trigger value="audit">{text.run.tabs.audit}</Tabs.Trigger>
        </Tabs.List>
        <Tabs.Content value="graph" className="tab" tabIndex={-1}>
          <div className={`split ${side ? "with-side" : ""}`}>
            <Steps nodes={state.nodes} selected={selected} added={added} />
            {side ? <div className="side">{side}</div> : null}
          </div>
        </Tabs.Content>
        <Tabs.Content value="intervene" className="tab" tabIndex={-1}>
          {intervention ?? <Empty title={text.inbox.empty} />}
        </Tabs.Content>
        <Tabs.Content value="events" className="tab" tabIndex={-1}>
          <Place fallback={<Skeleton />}>
            <EventsTab run={run} />
          </Place>
        </Tabs.Content>
        <Tabs.Content value="audit" className="tab" tabIndex={-1}>
          <Place fallback={<Skeleton />}>
            <AuditTab run={run} />
          </Place>
        </Tabs.Content>
      </Tabs.Root>
    </>
  );
}

function tabName(pause: Pause | undefined): string {
  if (pause?.kind === "gate") return text.run.tabs.approve;
  return pause?.kind === "escalation" ? text.run.tabs.transcript : text.run.tabs.intervene;
}

function closePanel(id: string): void {
  setQuery({ node: null });
  // The focus goes back to where the panel was opened from.
  requestAnimationFrame(() => document.querySelector<HTMLElement>(`.step[data-step="${CSS.escape(id)}"], tr[data-step="${CSS.escape(id)}"] button`)?.focus());
}

function NeedsYou({ pauses, open }: { pauses: readonly Pause[]; open: () => void }) {
  return (
    <p className="banner" data-tone="human" data-testid="needs-you">
      <span>{pauses.map((each) => text.run.pausedBanner(each.node_id ?? text.inbox.of(null))).join(", ")}</span>
      <button type="button" className="button" onClick={open}>
        {text.run.pausedOpen}
      </button>
    </p>
  );
}

function Steps({ nodes, selected, added }: { nodes: readonly NodeView[]; selected: string | null; added: ReadonlySet<string> }) {
  const view = usePreferences((p) => p.view);
  const set = usePreferences((p) => p.set);
  const narrow = useNarrow();
  const outline = view === "outline" || (view === "auto" && narrow);
  const select = (id: string | null) => setQuery({ node: id }, id ? "push" : "replace");
  return (
    <div className="steps">
      <div className="segmented" role="group" aria-label={text.graph.show}>
        <button type="button" aria-pressed={!outline} onClick={() => set({ view: "graph" })}>
          {text.graph.graph}
        </button>
        <button type="button" aria-pressed={outline} onClick={() => set({ view: "outline" })}>
          {text.graph.outline}
        </button>
      </div>
      {outline ? (
        <Outline nodes={nodes} selected={selected} onSelect={select} added={added} />
      ) : (
        <Place fallback={<div className="graph" />}>
          <Picture nodes={nodes} selected={selected} onSelect={select} added={added} />
        </Place>
      )}
    </div>
  );
}

export interface ShownPause {
  pause: Pause;
  open: boolean;
  resolved: WorkflowEvent | null;
}

/** Open pauses first; then those that closed while somebody looked, and the last ones of the history. */
function usePausesShown(state: WorkflowState, events: readonly WorkflowEvent[]): ShownPause[] {
  const known = useRef(new Map<string, Pause>());
  return useMemo(() => {
    const ends = new Map<string, WorkflowEvent>();
    for (const event of events) {
      if (event.event_type === "WORKFLOW_PAUSED_HITL") {
        const pause = event as unknown as Pause;
        if (!known.current.has(pause.pause_id)) known.current.set(pause.pause_id, pause);
      } else if (event.event_type === "HITL_RESOLVED") ends.set(String(event.pause_id), event);
    }
    for (const pause of state.pauses) known.current.set(pause.pause_id, pause);
    const open = new Set(state.pauses.map((pause) => pause.pause_id));
    const closed = [...known.current.values()].filter((pause) => !open.has(pause.pause_id)).reverse();
    return [
      ...state.pauses.map((pause) => ({ pause, open: true, resolved: null })),
      ...closed.map((pause) => ({ pause, open: false, resolved: ends.get(pause.pause_id) ?? null })),
    ];
  }, [state.pauses, events]);
}

function Pauses(props: { current: ShownPause; all: readonly ShownPause[]; stale: boolean; title: string; cursor: string; feed: RunFeed }) {
  const { current, all, stale, title, cursor, feed } = props;
  return (
    <div className="pauses">
      {all.length > 1 ? (
        <label className="field pause-choice">
          {text.pause.choose}
          <select value={current.pause.pause_id} onChange={(event) => setQuery({ pause: event.target.value })}>
            {all.map(({ pause, open }) => (
              <option key={pause.pause_id} value={pause.pause_id}>
                {open ? "● " : ""}
                {pause.node_id ?? text.inbox.of(null)} · {text.inbox.kinds[pause.kind] ?? pause.kind} · {clock(pause.at)}
              </option>
            ))}
          </select>
        </label>
      ) : null}
      <Intervention pause={current.pause} open={current.open} resolved={current.resolved} stale={stale} workflow={title} cursor={cursor} onAgain={() => feed.again()} />
    </div>
  );
}

function addedNodes(events: readonly WorkflowEvent[]): ReadonlySet<string> {
  const found = new Set<string>();
  for (const event of events) {
    if (event.event_type !== "NODES_ADDED" || !event.by) continue;
    for (const node of (event.nodes as { id: string }[] | undefined) ?? []) found.add(node.id);
  }
  return found;
}

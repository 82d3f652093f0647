/** Every event in order, and the workflow as it was at each of them. */

import { type WorkflowEvent, WorkflowView } from "@handrail/client";
import { Pause as PauseIcon, Play, SkipBack, SkipForward } from "lucide-react";
import { useEffect, useMemo, useState } from "react";
import { Outline } from "../graph/outline.js";
import { useNarrow } from "../live/hooks.js";
import type { Run } from "../live/run.js";
import { sentence } from "../model/sentences.js";
import { absolute, clock } from "../model/time.js";
import { text } from "../text.js";
import { Json } from "../ui/evidence.js";
import { part, Place } from "../ui/part.js";
import { CopyButton, WorkflowBadge } from "../ui/parts.js";

const Picture = part(() => import("../graph/picture.js"));
const SHOWN = 300;
const STEP_MS = 350;

export default function EventsTab({ run }: { run: Run }) {
  const { events } = run;
  const [find, setFind] = useState("");
  const [type, setType] = useState("");
  const [at, setAt] = useState<number | null>(null);
  const [shown, setShown] = useState(SHOWN);
  const types = useMemo(() => [...new Set(events.map((event) => event.event_type))].sort(), [events]);
  const found = useMemo(() => {
    const asked = find.trim().toLowerCase();
    return events.filter((event) => (!type || event.event_type === type) && (!asked || JSON.stringify(event).toLowerCase().includes(asked)));
  }, [events, find, type]);
  const rows = at === null ? found : found.filter((event) => event.seq <= at);
  return (
    <div className="events">
      {events.length > 0 && events[0]?.seq === 1 ? <Replay run={run} at={at} setAt={setAt} /> : null}
      {run.whole || events.length === 0 ? null : <p className="notice">{text.events.partial}</p>}
      <div className="toolbar">
        <label>
          <span className="visually-hidden">{text.events.filter}</span>
          <input type="search" data-filter placeholder={text.events.filter} value={find} onChange={(event) => setFind(event.target.value)} />
        </label>
        <label>
          <span className="visually-hidden">{text.events.type}</span>
          <select value={type} onChange={(event) => setType(event.target.value)}>
            <option value="">{text.common.all}</option>
            {types.map((each) => (
              <option key={each}>{each}</option>
            ))}
          </select>
        </label>
        <span className="dim small">{text.events.count(rows.length, events.length)}</span>
        <CopyButton label={text.events.copyJson} value={() => JSON.stringify(rows, null, 2)} />
      </div>
      {rows.length === 0 ? <p className="dim">{text.events.empty}</p> : null}
      <ol className="event-list">
        {rows.slice(-shown).map((event) => (
          <Row key={event.seq} event={event} />
        ))}
      </ol>
      {rows.length > shown ? (
        <button type="button" className="button" onClick={() => setShown(shown + 1000)}>
          {text.common.more}
        </button>
      ) : null}
    </div>
  );
}

function Row({ event }: { event: WorkflowEvent }) {
  const [open, setOpen] = useState(false);
  return (
    <li className="event" data-type={event.event_type}>
      <details onToggle={(toggled) => setOpen(toggled.currentTarget.open)}>
        <summary data-row>
          <span className="event-seq">#{event.seq}</span>
          <time dateTime={event.at} title={absolute(event.at)}>
            {clock(event.at)}
          </time>
          <span className="event-what wrap">{sentence(event)}</span>
          <span className="event-type dim small">{event.event_type}</span>
        </summary>
        {open ? (
          <>
            <p className="row">
              <CopyButton label={text.events.copyJson} value={() => JSON.stringify(event, null, 2)} />
              <CopyButton label={text.events.copyCloud} value={() => JSON.stringify(cloudEvent(event), null, 2)} />
            </p>
            <Json value={event} label={event.event_type} />
          </>
        ) : null}
      </details>
    </li>
  );
}

/** As it went over the bus: CloudEvents 1.0, structured. */
export function cloudEvent(event: WorkflowEvent): Record<string, unknown> {
  return {
    specversion: "1.0",
    id: `default/${event.trace_id}/${event.seq}`,
    type: `dev.handrail.${event.event_type.toLowerCase()}.v1`,
    source: "handrail/orchestrator",
    subject: event.trace_id,
    time: event.at,
    datacontenttype: "application/json",
    data: event,
  };
}

function Replay({ run, at, setAt }: { run: Run; at: number | null; setAt: (seq: number | null) => void }) {
  const { events, traceId } = run;
  const last = events.at(-1)?.seq ?? 0;
  const here = at ?? last;
  const [playing, setPlaying] = useState(false);
  const narrow = useNarrow();
  const [selected, setSelected] = useState<string | null>(null);
  useEffect(() => {
    if (!playing) return;
    const timer = setTimeout(() => (here >= last ? setPlaying(false) : setAt(here + 1)), STEP_MS);
    return () => clearTimeout(timer);
  }, [playing, here, last, setAt]);
  const state = useMemo(() => {
    const view = new WorkflowView(traceId);
    for (const event of events) {
      if (event.seq > here) break;
      view.apply(event);
    }
    return view.state();
  }, [events, here, traceId]);
  const moment = events.find((event) => event.seq === here);
  const play = () => {
    if (!playing && here >= last) setAt(1);
    setPlaying(!playing);
  };
  return (
    <section className="replay" aria-label={text.events.replay} data-testid="replay">
      <div className="toolbar">
        <button type="button" className="button icon-only" aria-label={text.events.first} onClick={() => setAt(1)}>
          <SkipBack size={16} aria-hidden />
        </button>
        <button type="button" className="button icon-only" aria-label={playing ? text.events.stop : text.events.play} onClick={play}>
          {playing ? <PauseIcon size={16} aria-hidden /> : <Play size={16} aria-hidden />}
        </button>
        <button type="button" className="button icon-only" aria-label={text.events.last} onClick={() => setAt(null)}>
          <SkipForward size={16} aria-hidden />
        </button>
        <input
          type="range"
          className="scrubber"
          min={1}
          max={Math.max(1, last)}
          value={here}
          aria-label={text.events.replay}
          aria-valuetext={text.events.replayAt(here, last, clock(moment?.at))}
          onChange={(event) => {
            setPlaying(false);
            const next = Number(event.target.value);
            setAt(next >= last ? null : next);
          }}
        />
        <span className="small" data-testid="replay-at">{text.events.replayAt(here, last, clock(moment?.at))}</span>
        <WorkflowBadge status={state.status} small />
        {at !== null ? (
          <button type="button" className="button quiet" onClick={() => setAt(null)}>
            {text.events.live}
          </button>
        ) : null}
      </div>
      {at === null ? null : narrow ? (
        <Outline nodes={state.nodes} selected={selected} onSelect={setSelected} />
      ) : (
        <Place fallback={<div className="graph graph-small" />}>
          <div className="graph-small">
            <Picture nodes={state.nodes} selected={selected} onSelect={setSelected} />
          </div>
        </Place>
      )}
    </section>
  );
}

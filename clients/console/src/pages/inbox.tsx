/** What waits for a person, over all workflows: the most pressing first. */

import type { InboxPause, Pause } from "@handrail/client";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Hand, ShieldAlert } from "lucide-react";
import { useEffect, useMemo, useRef, useState } from "react";
import { Intervention } from "../intervene/intervention.js";
import { labelOf, sentenceOf } from "../intervene/closed.js";
import { holder } from "../intervene/claim.js";
import { client } from "../live/client.js";
import type { Gone } from "../live/desk.js";
import { useCalm, useDesk, useDeskStale, useNow, useWide } from "../live/hooks.js";
import { usePreferences } from "../live/preferences.js";
import { type Cluster, clustersOf, errorCode, pressing, signature } from "../model/clusters.js";
import { isHighRisk } from "../model/risk.js";
import { go, Link, setQuery, to, useAddress } from "../model/router.js";
import { workflowLook } from "../model/status.js";
import { clock, relative } from "../model/time.js";
import { text } from "../text.js";
import { Ago, Failed, Skeleton } from "../ui/parts.js";
import { useKeys } from "../ui/keys.js";
import { SavedViews } from "../ui/saved-views.js";
import { usePageTitle } from "../ui/page-title.js";
import { BulkDialog } from "./inbox-bulk.js";
import { InboxEmpty } from "./inbox-empty.js";

type State = "open" | "mine" | "resolved";
const STATES: readonly State[] = ["open", "mine", "resolved"];

export default function InboxPage() {
  usePageTitle(text.inbox.title);
  const { query } = useAddress();
  const asked = query.get("state") as State | null;
  const state: State = asked && STATES.includes(asked) ? asked : "open";
  const { stale, asOf } = useDeskStale();
  const count = useDesk((desk) => desk.pauses?.length ?? 0);
  return (
    <div className="page inbox">
      <h1>{text.inbox.title}</h1>
      {stale ? (
        <p className="banner" data-tone="bad" role="alert">
          {text.banner.stale(clock(asOf))}
        </p>
      ) : null}
      <nav className="tabs" aria-label={text.inbox.title}>
        {STATES.map((each) => (
          <Link key={each} href={to(["inbox"], { state: each === "open" ? null : each })} aria-current={state === each ? "page" : undefined} className="tab-link">
            {text.inbox.tabs[each]}
            {each === "open" && count > 0 ? <span className="count">{count}</span> : null}
          </Link>
        ))}
      </nav>
      {state === "resolved" ? <Resolved /> : <Waiting mine={state === "mine"} stale={stale} />}
    </div>
  );
}

/** Whether a pause is what the filters of the address ask for. */
function useWanted(): (pause: Pause) => boolean {
  const { query } = useAddress();
  const kind = query.get("kind") ?? "";
  const find = (query.get("q") ?? "").trim().toLowerCase();
  const agent = query.get("agent") ?? "";
  return useMemo(
    () => (pause) =>
      (!kind || pause.kind === kind) &&
      (!agent || pause.failed_agent === agent) &&
      (!find || [pause.trace_id, pause.node_id, pause.failure_reason, pause.failed_agent, errorCode(pause)].join(" ").toLowerCase().includes(find)),
    [kind, find, agent],
  );
}

type Shown = { pause: Pause; gone: Gone | null };

function Waiting({ mine, stale }: { mine: boolean; stale: boolean }) {
  const pauses = useDesk((desk) => desk.pauses);
  const gone = useDesk((desk) => desk.gone);
  const truncated = useDesk((desk) => desk.truncated);
  const error = useDesk((desk) => desk.error);
  const actor = usePreferences((p) => p.actor);
  const { query } = useAddress();
  const wide = useWide();
  const now = useNow(1000, mine);
  const [bulk, setBulk] = useState<Cluster | null>(null);
  const all = useMemo(() => (pauses ?? []).filter((pause) => !mine || holder(pause, now) === actor), [pauses, mine, actor, now]);
  const wanted = useWanted();
  const filtered = useMemo(() => all.filter(wanted), [all, wanted]);
  const clusters = useMemo(() => clustersOf(filtered), [filtered]);
  const shown = useMemo<Shown[]>(() => {
    const left = gone.filter(({ pause }) => wanted(pause) && (!mine || pause.claimed_by === actor)).map((each) => ({ pause: each.pause, gone: each }));
    const here = new Set(filtered.map((pause) => pause.pause_id));
    return [...filtered.map((pause) => ({ pause, gone: null })), ...left.filter((each) => !here.has(each.pause.pause_id))].sort((a, b) => pressing(a.pause, b.pause));
  }, [filtered, wanted, gone, mine, actor]);
  const picks = usePicks(filtered, clusters);
  const names = useNames(all);
  if (error) return <Failed error={error} />;
  if (pauses === null) return <Skeleton lines={6} />;
  const filters = query.has("kind") || query.has("q") || query.has("agent");
  if (shown.length === 0 && !filters && !query.get("pause")) return <InboxEmpty mine={mine} />;
  const selected = query.get("pause");
  return (
    <div className={`inbox-body ${wide ? "inbox-split" : ""}`}>
      <div className="inbox-list">
        <SavedViews page="inbox" />
        <Filters all={all} />
        {truncated ? <p className="notice" data-tone="warn">{text.inbox.truncated}</p> : null}
        {[...clusters.values()].map((cluster) => (
          <ClusterRow key={cluster.signature} cluster={cluster} open={() => setBulk(cluster)} disabled={stale} />
        ))}
        {picks.pauses.length > 0 ? <Picked picks={picks} open={setBulk} disabled={stale} /> : null}
        {shown.length === 0 ? <p className="dim">{text.inbox.empty}</p> : null}
        <ul className="rows" aria-label={text.inbox.title}>
          {shown.map(({ pause, gone: left }) => (
            <Row key={pause.pause_id} pause={pause} gone={left} chosen={selected === pause.pause_id} alike={clusters.get(signature(pause))?.pauses.length ?? 0} wide={wide} picks={picks} name={names.get(pause.trace_id)} />
          ))}
        </ul>
      </div>
      {wide ? <Detail id={selected} stale={stale} /> : null}
      {bulk ? <BulkDialog cluster={bulk} onClose={() => setBulk(null)} /> : null}
    </div>
  );
}

/** What the workflows of these pauses are called, by trace id: the live list does not say, so it is asked for what is new. */
function useNames(pauses: readonly Pause[]): ReadonlyMap<string, string> {
  const known = useRef(new Map<string, string>());
  const unknown = useCalm(pauses.filter((pause) => !known.current.has(pause.trace_id)).map((pause) => pause.trace_id).join(" "), NAMES_MS);
  const asked = useQuery({ queryKey: ["inbox", "names", unknown], queryFn: () => client.inbox({ state: "open", limit: 200 }), enabled: unknown !== "", staleTime: Number.POSITIVE_INFINITY });
  return useMemo(() => {
    for (const { trace_id: id, workflow } of asked.data?.items ?? []) {
      const { blueprint, intent } = workflow as { blueprint?: string | null; intent?: string | null };
      if (blueprint || intent) known.current.set(id, String(blueprint || intent));
    }
    return new Map(known.current);
  }, [asked.data]);
}

const NAMES_MS = 2_000;

function Filters({ all }: { all: readonly Pause[] }) {
  const { query } = useAddress();
  const kinds = [...new Set(all.map((pause) => pause.kind))];
  const chosen = query.get("kind") ?? "";
  if (chosen && !kinds.includes(chosen as Pause["kind"])) kinds.push(chosen as Pause["kind"]);
  return (
    <div className="toolbar" role="search">
      <input type="search" data-filter aria-label={text.inbox.filterText} placeholder={text.inbox.filterTextHint} value={query.get("q") ?? ""} maxLength={200} onChange={(event) => setQuery({ q: event.target.value })} />
      <select aria-label={text.inbox.filterKind} value={chosen} onChange={(event) => setQuery({ kind: event.target.value })}>
        <option value="">
          {text.inbox.filterKind}: {text.common.all.toLowerCase()}
        </option>
        {kinds.map((kind) => (
          <option key={kind} value={kind}>
            {text.inbox.kinds[kind] ?? kind}
          </option>
        ))}
      </select>
    </div>
  );
}

function ClusterRow({ cluster, open, disabled }: { cluster: Cluster; open: () => void; disabled: boolean }) {
  return (
    <div className="cluster" data-testid="cluster">
      <span className="wrap">
        <strong>{text.inbox.cluster(cluster.pauses.length)}</strong> {cluster.agent} <code>{cluster.code}</code>
      </span>
      <button type="button" className="button" onClick={open} disabled={disabled}>
        {text.inbox.clusterOpen}
      </button>
    </div>
  );
}

interface RowProps {
  pause: Pause;
  gone: Gone | null;
  chosen: boolean;
  alike: number;
  wide: boolean;
  picks: Picks;
  /** What its workflow is called, once that is known. */
  name: string | undefined;
}

function Row({ pause, gone, chosen, alike, wide, picks, name }: RowProps) {
  const now = useNow(1000);
  const actor = usePreferences((p) => p.actor);
  const held = holder(pause, now);
  const href = wide
    ? to(["inbox"], { ...Object.fromEntries(new URLSearchParams(window.location.search)), pause: pause.pause_id })
    : to(["workflows", pause.trace_id], { tab: "intervene", pause: pause.pause_id });
  return (
    <li className={`row-item ${gone ? "gone" : ""} ${chosen ? "chosen" : ""}`} data-pause={pause.pause_id}>
      {alike > 1 && !gone ? (
        <label className="row-pick">
          <input type="checkbox" aria-label={text.inbox.pick(pause.node_id ?? "", pause.trace_id)} checked={picks.has(pause.pause_id)} disabled={!picks.may(pause)} onChange={() => picks.turn(pause)} />
        </label>
      ) : null}
      <Link href={href} data-row aria-current={chosen ? "true" : undefined} className="row-link">
        <span className="row-icon" data-token={gone ? "skipped" : "human"}>
          <Hand size={18} aria-hidden />
        </span>
        <span className="row-main">
          <span className="row-top">
            <strong className="ellipsis">{pause.node_id ?? text.inbox.of(null)}</strong>
            <span className="chip" data-kind={pause.kind}>
              {text.inbox.kinds[pause.kind] ?? pause.kind}
            </span>
            {isHighRisk(pause) ? (
              <span className="chip" data-tone="bad">
                <ShieldAlert size={14} aria-hidden /> {text.inbox.highRisk}
              </span>
            ) : null}
            {alike > 1 ? <span className="chip">{text.inbox.cluster(alike)}</span> : null}
            <span className="row-age">
              <Ago at={pause.at} />
            </span>
          </span>
          <span className="row-reason ellipsis">{pause.failure_reason}</span>
          <span className="row-meta dim small">
            <span className="ellipsis">{name ? `${name} · ${pause.trace_id}` : pause.trace_id}</span>
            {(pause.assignees ?? []).length > 0 ? <span className="ellipsis">{text.inbox.meantFor((pause.assignees ?? []).join(", "))}</span> : null}
            {pause.expires_at ? <span>{text.inbox.deadline(relative(pause.expires_at, now))}</span> : null}
            {held ? <span>{held === actor ? text.inbox.claimedByYou : text.inbox.claimedBy(held)}</span> : null}
            {gone ? null : (
              <span className="row-decide" aria-hidden>
                {text.inbox.decide}
              </span>
            )}
          </span>
          {gone ? <span className="row-gone">{goneSentence(gone, actor, now)}</span> : null}
        </span>
      </Link>
    </li>
  );
}

interface Picks {
  /** In the order of the list. */
  pauses: readonly Pause[];
  has(id: string): boolean;
  /** Only what is like the first that was picked. */
  may(pause: Pause): boolean;
  turn(pause: Pause): void;
  clear(): void;
}

/** Rows picked by hand, to be decided together: all of one cluster. `x` picks the row that has the focus. */
function usePicks(shown: readonly Pause[], clusters: ReadonlyMap<string, Cluster>): Picks {
  const [ids, setIds] = useState<ReadonlySet<string>>(new Set());
  const pauses = useMemo(() => shown.filter((pause) => ids.has(pause.pause_id)), [shown, ids]);
  const kind = pauses[0] ? signature(pauses[0]) : null;
  const picks: Picks = {
    pauses,
    has: (id) => ids.has(id),
    may: (pause) => clusters.has(signature(pause)) && (kind === null || signature(pause) === kind),
    turn: (pause) => setIds((now) => new Set(now.has(pause.pause_id) ? [...now].filter((id) => id !== pause.pause_id) : [...now, pause.pause_id])),
    clear: () => setIds(new Set()),
  };
  useKeys((key) => {
    if (key !== "x") return;
    const id = document.activeElement?.closest<HTMLElement>("[data-pause]")?.dataset.pause;
    const pause = shown.find((each) => each.pause_id === id);
    if (!pause || !picks.may(pause)) return;
    picks.turn(pause);
    return true;
  });
  return picks;
}

function Picked({ picks, open, disabled }: { picks: Picks; open: (cluster: Cluster) => void; disabled: boolean }) {
  const [first] = picks.pauses;
  if (!first) return null;
  const cluster = { signature: signature(first), agent: first.failed_agent ?? "", code: errorCode(first), pauses: picks.pauses };
  return (
    <div className="cluster picked" role="status" data-testid="picked">
      <strong>{text.inbox.picked(picks.pauses.length)}</strong>
      <span className="row">
        <button type="button" className="button primary" disabled={disabled || picks.pauses.length < 2} onClick={() => open(cluster)}>
          {text.inbox.pickedOpen}
        </button>
        <button type="button" className="button quiet" onClick={picks.clear}>
          {text.common.clear}
        </button>
      </span>
    </div>
  );
}

function goneSentence({ pause, event }: Gone, actor: string, now: number): string {
  if (event.event_type !== "HITL_RESOLVED") return text.inbox.endedWith(workflowLook(String(event.status)).word);
  if (event.outcome !== "decided") return sentenceOf(pause, event, actor, now);
  return text.inbox.resolvedBy(String(event.actor), String(event.channel), labelOf(pause, event.action_id));
}

/** The chosen pause beside the list; it stays, with its result, after it was decided. */
function Detail({ id, stale }: { id: string | null; stale: boolean }) {
  const open = useDesk((desk) => desk.pauses?.find((pause) => pause.pause_id === id) ?? null);
  const left = useDesk((desk) => desk.gone.find((each) => each.pause.pause_id === id) ?? null);
  const [kept, setKept] = useState<{ pause: Pause; event: Gone["event"] | null } | null>(null);
  useEffect(() => {
    if (open) setKept({ pause: open, event: null });
    else if (left) setKept({ pause: left.pause, event: left.event });
  }, [open, left]);
  const shown = open ?? (kept?.pause.pause_id === id ? kept?.pause : null);
  useEffect(() => {
    // An address that names a pause which is not open any more: its workflow knows how it ended.
    if (!id || shown) return;
    let on = true;
    const timer = setTimeout(() => {
      client.getPause(id).then(
        (pause) => on && go(to(["workflows", pause.trace_id], { tab: "intervene", pause: id }), "replace"),
        () => on && setQuery({ pause: null }),
      );
    }, 500);
    return () => {
      on = false;
      clearTimeout(timer);
    };
  }, [id, shown]);
  if (!shown) return <div className="inbox-detail empty-detail dim">{id ? null : text.inbox.choose}</div>;
  return (
    <div className="inbox-detail">
      <Intervention pause={shown} open={open !== null} resolved={open ? null : (kept?.event ?? null)} stale={stale} workflow={shown.trace_id} onAgain={() => window.location.reload()} />
    </div>
  );
}

function Resolved() {
  const { query } = useAddress();
  const q = query.get("q") ?? "";
  const kind = query.get("kind") ?? "";
  const list = useInfiniteQuery({
    queryKey: ["resolved", q, kind],
    queryFn: ({ pageParam }) => client.inbox({ state: "resolved", limit: 50, cursor: pageParam, ...(q ? { q } : {}), ...(kind ? { kind: [kind as Pause["kind"]] } : {}) }),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor,
  });
  const items = list.data?.pages.flatMap((page) => page.items) ?? [];
  return (
    <div>
      <Filters all={items} />
      {list.isPending ? <Skeleton /> : list.isError ? <Failed error={list.error} again={() => void list.refetch()} /> : null}
      {list.isSuccess && items.length === 0 ? <p className="dim">{text.inbox.emptyResolved}</p> : null}
      <ul className="rows">
        {items.map((pause) => (
          <ResolvedRow key={pause.pause_id} pause={pause} />
        ))}
      </ul>
      {list.hasNextPage ? (
        <button type="button" className="button" onClick={() => void list.fetchNextPage()} disabled={list.isFetchingNextPage}>
          {text.inbox.loadMore}
        </button>
      ) : null}
    </div>
  );
}

function ResolvedRow({ pause }: { pause: InboxPause }) {
  const decision = pause.decision;
  const what = decision ? (decision.action_id ? labelOf(pause, decision.action_id) : decision.outcome) : pause.state;
  return (
    <li className="row-item">
      <Link href={to(["workflows", pause.trace_id], { tab: "intervene", pause: pause.pause_id })} data-row className="row-link">
        <span className="row-main">
          <span className="row-top">
            <strong className="ellipsis">{pause.node_id ?? text.inbox.of(null)}</strong>
            <span className="chip" data-kind={pause.kind}>
              {text.inbox.kinds[pause.kind] ?? pause.kind}
            </span>
            <span className="row-age">
              <Ago at={pause.closed_at ?? pause.at} />
            </span>
          </span>
          <span className="row-reason ellipsis">{pause.failure_reason}</span>
          <span className="row-meta small">{decision ? text.inbox.resolvedBy(decision.actor, decision.channel, what) : pause.state}</span>
        </span>
      </Link>
    </li>
  );
}

/**
 * All workflows, newest first; the filters are the address. Rows that are shown follow their workflows live, and new ones
 * appear by themselves, except under a hand or an eye: then a button says how many wait.
 */

import { type WorkflowStatus, type WorkflowSummary } from "@handrail/client";
import { useInfiniteQuery } from "@tanstack/react-query";
import { ArrowUp, RefreshCw } from "lucide-react";
import { useEffect, useState } from "react";
import { client } from "../live/client.js";
import { useListLive } from "../live/list.js";
import { useHeldBack } from "../live/held-back.js";
import { Link, setQuery, to, useAddress } from "../model/router.js";
import { hasEnded, nodeLook, WORKFLOW_STATUSES, workflowLook } from "../model/status.js";
import { text } from "../text.js";
import { Ago, Empty, Failed, Skeleton, Took, WorkflowBadge } from "../ui/parts.js";
import { SavedViews } from "../ui/saved-views.js";
import { usePageTitle } from "../ui/page-title.js";

const VIEWS = [
  { name: text.runs.views.all, status: "" },
  { name: text.runs.views.active, status: "ACCEPTED,PLANNING,RUNNING,COMPENSATING" },
  { name: text.runs.views.waiting, status: "PAUSED_HITL" },
  { name: text.runs.views.failed, status: "FAILED,COMPENSATION_INCOMPLETE,CANCELLED,COMPENSATED" },
];

export default function RunsPage() {
  usePageTitle(text.runs.title);
  const { query } = useAddress();
  const [status, blueprint, q, label] = ["status", "blueprint", "q", "label"].map((name) => query.get(name) ?? "") as [string, string, string, string];
  const labels = labelsOf(label);
  const list = useInfiniteQuery({
    queryKey: ["runs", status, blueprint, q, label],
    queryFn: ({ pageParam, signal }) =>
      client.list(
        {
          limit: 50,
          cursor: pageParam,
          ...(status ? { status: status.split(",") as WorkflowStatus[] } : {}),
          ...(blueprint ? { blueprint } : {}),
          ...(q ? { q } : {}),
          ...(labels ? { labels } : {}),
        },
        { signal },
      ),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor,
    placeholderData: (before) => before,
  });
  const all = list.data?.pages.flatMap((page) => page.items) ?? [];
  useListLive(all, list.isSuccess);
  const { items, waiting, show, reach, hand } = useHeldBack(all, {
    key: [status, blueprint, q, label].join("\n"),
    reading: (list.data?.pages.length ?? 0) > 1,
    old: list.isPlaceholderData,
  });
  const filtered = Boolean(status || blueprint || q || label);
  return (
    <div className="page">
      <div className="page-head">
        <h1>{text.runs.title}</h1>
        <Link className="button primary" href={to(["start"])}>
          {text.runs.start}
        </Link>
      </div>
      <Filters status={status} blueprint={blueprint} q={q} label={label} refresh={() => void list.refetch()} />
      {list.isError ? <Failed error={list.error} again={() => void list.refetch()} /> : null}
      {list.isPending ? <Skeleton lines={8} /> : null}
      {list.isSuccess && items.length === 0 ? <Empty title={filtered ? text.runs.empty : text.runs.emptyAll} /> : null}
      <div {...reach}>
        {waiting > 0 ? (
          <button type="button" className="button news" onClick={show} data-testid="news">
            <ArrowUp size={16} aria-hidden /> {text.runs.waiting(waiting)}
          </button>
        ) : null}
        <div {...hand}>{items.length > 0 ? <Table items={items} /> : null}</div>
      </div>
      {list.hasNextPage ? (
        <button type="button" className="button" onClick={() => void list.fetchNextPage()} disabled={list.isFetchingNextPage}>
          {text.runs.more}
        </button>
      ) : null}
      <p className="dim small">{text.runs.news}</p>
    </div>
  );
}

function labelsOf(label: string): Record<string, string> | null {
  const colon = label.indexOf(":");
  return colon > 0 ? { [label.slice(0, colon)]: label.slice(colon + 1) } : null;
}

function Filters(props: { status: string; blueprint: string; q: string; label: string; refresh: () => void }) {
  const { status, blueprint, q, label, refresh } = props;
  const [typed, setTyped] = useState(q);
  useEffect(() => setTyped(q), [q]);
  useEffect(() => {
    if (typed === q) return;
    const timer = setTimeout(() => setQuery({ q: typed }), 250);
    return () => clearTimeout(timer);
  }, [typed, q]);
  const single = status.includes(",") ? "" : status;
  return (
    <>
      <nav className="tabs" aria-label={text.runs.saved}>
        {VIEWS.map((view) => (
          <Link key={view.name} href={to(["workflows"], { status: view.status, blueprint, q, label })} aria-current={status === view.status ? "page" : undefined} className="tab-link">
            {view.name}
          </Link>
        ))}
      </nav>
      <SavedViews page="workflows" />
      <div className="toolbar" role="search">
        <input type="search" data-filter aria-label={text.runs.text} placeholder={text.runs.textHint} value={typed} maxLength={200} onChange={(event) => setTyped(event.target.value)} />
        <select aria-label={text.runs.status} value={single} onChange={(event) => setQuery({ status: event.target.value })}>
          <option value="">
            {text.runs.status}: {text.common.all.toLowerCase()}
          </option>
          {WORKFLOW_STATUSES.map((each) => (
            <option key={each} value={each}>
              {workflowLook(each).word}
            </option>
          ))}
        </select>
        <input aria-label={text.runs.blueprint} placeholder={text.runs.blueprint} defaultValue={blueprint} key={`b${blueprint}`} onBlur={(event) => setQuery({ blueprint: event.target.value.trim() })} onKeyDown={(event) => event.key === "Enter" && event.currentTarget.blur()} />
        <input aria-label={text.runs.label} placeholder={`${text.runs.label} ${text.runs.labelHint}`} defaultValue={label} key={`l${label}`} onBlur={(event) => setQuery({ label: event.target.value.trim() })} onKeyDown={(event) => event.key === "Enter" && event.currentTarget.blur()} />
        {status || blueprint || q || label ? (
          <button type="button" className="button quiet" onClick={() => setQuery({ status: null, blueprint: null, q: null, label: null })}>
            {text.common.clear}
          </button>
        ) : null}
        <button type="button" className="button icon-only" aria-label={text.common.refresh} title={text.common.refresh} onClick={refresh}>
          <RefreshCw size={16} aria-hidden />
        </button>
      </div>
    </>
  );
}

function Table({ items }: { items: readonly WorkflowSummary[] }) {
  const c = text.runs.columns;
  return (
    <table className="table runs" aria-label={text.runs.title}>
      <thead>
        <tr>
          <th scope="col">{c.status}</th>
          <th scope="col">{c.what}</th>
          <th scope="col" className="wide-only">
            {c.progress}
          </th>
          <th scope="col">{c.started}</th>
          <th scope="col" className="wide-only">
            {c.took}
          </th>
        </tr>
      </thead>
      <tbody>
        {items.map((each) => (
          <tr key={each.trace_id} data-trace={each.trace_id} data-status={each.status}>
            <td>
              <WorkflowBadge status={each.status} small />
            </td>
            <th scope="row">
              <Link href={to(["workflows", each.trace_id])} data-row className="row-title">
                {each.intent || each.blueprint || each.trace_id}
              </Link>
              <span className="dim small mono ellipsis">{each.trace_id}</span>
              {(each as { parked_reason?: unknown }).parked_reason ? <span className="chip" data-tone="bad">{text.runs.parked}</span> : null}
            </th>
            <td className="wide-only">
              <Progress counts={each.counts} />
            </td>
            <td>
              <Ago at={each.created_at} />
            </td>
            <td className="wide-only number">
              <Took from={each.created_at} to={each.ended_at ?? (hasEnded(each.status) ? each.updated_at : null)} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

const DONE = new Set(["COMPLETE", "SKIPPED", "CANCELLED", "COMPENSATED", "NOT_REVERSIBLE", "NOTHING_TO_UNDO"]);

function Progress({ counts }: { counts: Record<string, number> }) {
  const all = Object.values(counts).reduce((sum, n) => sum + n, 0);
  const done = Object.entries(counts).reduce((sum, [state, n]) => sum + (DONE.has(state) ? n : 0), 0);
  if (all === 0) return null;
  const title = Object.entries(counts)
    .map(([state, n]) => `${n} ${nodeLook(state).word.toLowerCase()}`)
    .join(", ");
  return (
    <span className="progress" title={title}>
      <progress max={all} value={done} aria-label={text.runs.steps(done, all)} />
      <span className="small">{text.runs.steps(done, all)}</span>
    </span>
  );
}

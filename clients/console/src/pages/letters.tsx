/** Dead letters and quarantine: looked at, replayed, or let go with a reason. */

import { type DeadLetter, Problem, type QuarantinedRecord } from "@handrail/client";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { type ReactNode, useMemo, useState } from "react";
import { client, queries } from "../live/client.js";
import { attemptsOfPause } from "../model/attempts.js";
import { type Form, formOf, type Raw, read } from "../model/forms.js";
import { Link, setQuery, to, useAddress } from "../model/router.js";
import { text } from "../text.js";
import { Attempts } from "../graph/node-panel.js";
import { Dialog } from "../ui/dialog.js";
import { Json } from "../ui/evidence.js";
import { Fields } from "../ui/form.js";
import { Ago, Empty, Failed, Skeleton } from "../ui/parts.js";
import { usePageTitle } from "../ui/page-title.js";
import { toast } from "../ui/toasts.js";

type Tab = "letters" | "quarantine";

export default function LettersPage() {
  usePageTitle(text.letters.title);
  const { query } = useAddress();
  const tab: Tab = query.get("tab") === "quarantine" ? "quarantine" : "letters";
  const state = query.get("state") ?? "open";
  return (
    <div className="page">
      <h1>{text.letters.title}</h1>
      <nav className="tabs" aria-label={text.letters.title}>
        {(["letters", "quarantine"] as const).map((each) => (
          <Link key={each} href={to(["dead-letters"], { tab: each === "letters" ? null : each })} aria-current={tab === each ? "page" : undefined} className="tab-link">
            {text.letters.tabs[each]}
          </Link>
        ))}
      </nav>
      <div className="toolbar">
        <select aria-label={text.letters.state} value={state} onChange={(event) => setQuery({ state: event.target.value })}>
          {["open", "replayed", "discarded", "all"].map((each) => (
            <option key={each} value={each}>
              {text.letters.states[each] ?? text.common.all}
            </option>
          ))}
        </select>
      </div>
      {tab === "letters" ? <Letters state={state} /> : <Quarantine state={state} />}
    </div>
  );
}

function useList<T>(key: string, state: string, ask: (filter: { limit: number; cursor: string | null; state?: string }) => Promise<{ items: T[]; next_cursor: string | null }>) {
  const list = useInfiniteQuery({
    queryKey: [key, state],
    queryFn: ({ pageParam }) => ask({ limit: 50, cursor: pageParam, ...(state === "all" ? {} : { state }) }),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor,
  });
  return { list, items: list.data?.pages.flatMap((page) => page.items) ?? [] };
}

function Listed({ list, count, empty, hint, children }: { list: ReturnType<typeof useList>["list"]; count: number; empty: string; hint: string; children: ReactNode }) {
  return (
    <>
      {list.isPending ? <Skeleton /> : null}
      {list.isError ? <Failed error={list.error} again={() => void list.refetch()} /> : null}
      {list.isSuccess && count === 0 ? (
        <Empty title={empty}>
          <p>{hint}</p>
        </Empty>
      ) : (
        <ul className="rows">{children}</ul>
      )}
      {list.hasNextPage ? (
        <button type="button" className="button" onClick={() => void list.fetchNextPage()}>
          {text.inbox.loadMore}
        </button>
      ) : null}
    </>
  );
}

type Letter = DeadLetter & { data?: { attempts?: Record<string, unknown>[] } };

function Letters({ state }: { state: string }) {
  const { list, items } = useList<DeadLetter>("dead-letters", state, (filter) => client.deadLetters(filter));
  return (
    <Listed list={list as never} count={items.length} empty={text.letters.empty} hint={text.letters.emptyHint}>
      {(items as Letter[]).map((letter) => (
        <LetterRow key={letter.dead_letter_id} letter={letter} />
      ))}
    </Listed>
  );
}

interface Act {
  title: string;
  hint: string;
  needsReason: boolean;
  danger: boolean;
  /** The pause whose button this presses: what that asks for is asked here. */
  pause?: { id: string; kind: string } | null;
  run: (reason: string, input: unknown) => Promise<unknown>;
}

function LetterRow({ letter }: { letter: Letter }) {
  const [act, setAct] = useState<Act | null>(null);
  const id = letter.dead_letter_id;
  const attempts = attemptsOfPause(letter.data?.attempts);
  return (
    <li className="row-item letter" data-letter={id} data-state={letter.state}>
      <details>
        <summary data-row>
          <strong>{letter.node_id ?? letter.trace_id}</strong> <code>{letter.error_code}</code>{" "}
          <span className="chip">{letter.kind}</span> <span className="chip">{text.letters.states[letter.state] ?? letter.state}</span>{" "}
          <span className="dim small">{letter.agent}</span> <Ago at={letter.at} />
          {letter.node_id ? <code className="letter-of dim small">{letter.trace_id}</code> : null}
        </summary>
        {letter.reason ? <p className="wrap">{letter.reason}</p> : null}
        {attempts.length > 0 ? <Attempts of={attempts} /> : <Json value={letter.data ?? letter} label={text.letters.title} />}
        <p className="row">
          <Link className="button quiet" href={to(["workflows", letter.trace_id], letter.pause_id ? { tab: "intervene", pause: letter.pause_id } : {})}>
            {letter.pause_id ? text.letters.openPause : text.letters.openRun}
          </Link>
        </p>
      </details>
      {letter.state === "open" ? (
        <Actions
          replay={{ title: text.letters.replay, hint: text.letters.replayHint, needsReason: false, danger: false, pause: letter.pause_id ? { id: letter.pause_id, kind: "retry" } : null, run: (reason, input) => client.replayDeadLetter(id, { ...(reason ? { reason } : {}), ...(input === undefined ? {} : { input }) }) }}
          discard={{ title: text.letters.discard, hint: text.letters.discardHint, needsReason: true, danger: true, run: (reason) => client.discardDeadLetter(id, { reason }) }}
          choose={setAct}
        />
      ) : null}
      {act ? <ActDialog act={act} again="dead-letters" onClose={() => setAct(null)} /> : null}
    </li>
  );
}

type Quarantined = QuarantinedRecord & { headers?: unknown; state_reason?: string | null };

function Quarantine({ state }: { state: string }) {
  const { list, items } = useList<QuarantinedRecord>("quarantine", state, (filter) => client.quarantine(filter));
  return (
    <Listed list={list as never} count={items.length} empty={text.letters.emptyQuarantine} hint={text.letters.emptyQuarantineHint}>
      {(items as Quarantined[]).map((record) => (
        <RecordRow key={record.id} record={record} />
      ))}
    </Listed>
  );
}

function RecordRow({ record }: { record: Quarantined }) {
  const [act, setAct] = useState<Act | null>(null);
  const value = decoded(record.value);
  return (
    <li className="row-item letter" data-record={record.id} data-state={record.state}>
      <details>
        <summary data-row>
          <strong>{record.topic}</strong> <span className="chip">{record.kind}</span> <span className="chip">{text.letters.states[record.state] ?? record.state}</span>{" "}
          <span className="wrap">{record.reason}</span> <Ago at={record.at} />
        </summary>
        {record.state_reason ? <p className="wrap">{text.letters.because(text.letters.states[record.state] ?? record.state, record.state_reason)}</p> : null}
        <p className="dim small">{text.letters.place(record.topic, record.partition, record.offset)}</p>
        <h4>{text.letters.value}</h4>
        {value.binary ? <p className="dim small">{text.letters.binary}</p> : null}
        <Json value={value.shown} label={text.letters.value} />
        {record.headers ? (
          <>
            <h4>{text.letters.headers}</h4>
            <Json value={record.headers} label={text.letters.headers} />
          </>
        ) : null}
        {record.trace_id ? (
          <Link className="button quiet" href={to(["workflows", record.trace_id])}>
            {text.letters.openRun}
          </Link>
        ) : null}
      </details>
      {record.state === "open" ? (
        <Actions
          replay={{ title: text.letters.replay, hint: text.letters.replayRecordHint, needsReason: false, danger: false, run: (reason) => client.replayQuarantined(record.id, reason ? { reason } : {}) }}
          discard={{ title: text.letters.discard, hint: text.letters.discardRecordHint, needsReason: true, danger: true, run: (reason) => client.discardQuarantined(record.id, { reason }) }}
          choose={setAct}
        />
      ) : null}
      {act ? <ActDialog act={act} again="quarantine" onClose={() => setAct(null)} /> : null}
    </li>
  );
}

/** Base64 as text or JSON where it is that. */
export function decoded(value: string | null): { shown: unknown; binary: boolean } {
  if (value === null) return { shown: "", binary: false };
  try {
    const bytes = Uint8Array.from(atob(value), (each) => each.charCodeAt(0));
    const shown = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    try {
      return { shown: JSON.parse(shown) as unknown, binary: false };
    } catch {
      return { shown, binary: false };
    }
  } catch {
    return { shown: value, binary: true };
  }
}

function Actions({ replay, discard, choose }: { replay: Act; discard: Act; choose: (act: Act) => void }) {
  return (
    <span className="row-actions">
      <button type="button" className="button" onClick={() => choose(replay)}>
        {replay.title}
      </button>
      <button type="button" className="button danger" onClick={() => choose(discard)}>
        {discard.title}
      </button>
    </span>
  );
}

/** What the pause's button of that kind asks for; null where it asks for nothing. */
function useAsked(pause: { id: string; kind: string } | null): { label: string; form: Form } | null {
  const found = useQuery({ queryKey: ["pause", pause?.id], queryFn: () => client.getPause(pause?.id ?? ""), enabled: pause !== null });
  return useMemo(() => {
    const button = found.data?.available_resolutions.find((each) => each.kind === pause?.kind);
    return button?.requires_input ? { label: button.display_text, form: formOf(button.input_schema) } : null;
  }, [found.data, pause?.kind]);
}

function ActDialog({ act, again, onClose }: { act: Act; again: string; onClose: () => void }) {
  const [reason, setReason] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");
  const asked = useAsked(act.pause ?? null);
  const [raw, setRaw] = useState<Raw>({});
  const [errors, setErrors] = useState<Record<string, string>>({});
  const send = async () => {
    const found = asked ? read(asked.form, raw) : { value: undefined, errors: {} };
    setErrors(found.errors);
    if (Object.keys(found.errors).length > 0) return;
    setBusy(true);
    try {
      await act.run(reason.trim(), found.value);
      toast(text.letters.done, act.title);
      await queries.invalidateQueries({ queryKey: [again] });
      onClose();
    } catch (error) {
      setProblem(error instanceof Problem ? error.detail : String(error));
      setBusy(false);
    }
  };
  return (
    <Dialog open onClose={onClose} title={act.title}>
      <p>{act.hint}</p>
      {asked ? <Fields form={asked.form} raw={raw} errors={errors} label={asked.label} onChange={(pointer, value) => setRaw((now) => ({ ...now, [pointer]: value }))} /> : null}
      <label className="field">
        {text.letters.reason} <span className="dim small">{act.needsReason ? text.pause.commentRequired : text.pause.commentOptional}</span>
        <textarea rows={2} value={reason} maxLength={4000} onChange={(event) => setReason(event.target.value)} />
        <span className="dim small">{text.letters.reasonHint}</span>
      </label>
      {problem ? (
        <p className="notice" data-tone="bad" role="alert">
          {problem}
        </p>
      ) : null}
      <p className="row">
        <button type="button" className={`button ${act.danger ? "danger solid" : "primary"}`} disabled={busy || (act.needsReason && !reason.trim())} onClick={() => void send()}>
          {act.title}
        </button>
        <button type="button" className="button quiet" onClick={onClose}>
          {text.common.cancel}
        </button>
      </p>
    </Dialog>
  );
}

/** Start a workflow: choose what, fill in its form, see what will run. */

import { type Blueprint, type NodeView, Problem, type StartRequest } from "@handrail/client";
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useId, useMemo, useRef, useState } from "react";
import { Outline } from "../graph/outline.js";
import { client } from "../live/client.js";
import { useNarrow } from "../live/hooks.js";
import { curl } from "../model/curl.js";
import { formOf, placed, type Raw, rawOf, read } from "../model/forms.js";
import { go, Link, to, useAddress } from "../model/router.js";
import { text } from "../text.js";
import { Fields, focusFirstError } from "../ui/form.js";
import { part, Place } from "../ui/part.js";
import { CopyButton, Empty, Failed, Skeleton } from "../ui/parts.js";
import { usePageTitle } from "../ui/page-title.js";

const Picture = part(() => import("../graph/picture.js"));
const INTENT = "~intent";

export default function StartPage() {
  usePageTitle(text.start.title);
  const { query } = useAddress();
  const list = useQuery({ queryKey: ["blueprints"], queryFn: () => client.blueprints(), staleTime: 60_000 });
  const chosen = query.get("blueprint");
  const blueprints = list.data?.items ?? [];
  const blueprint = blueprints.find((each) => each.name === chosen) ?? null;
  return (
    <div className="page start">
      <h1>{text.start.title}</h1>
      {list.isPending ? <Skeleton /> : null}
      {list.isError ? <Failed error={list.error} again={() => void list.refetch()} /> : null}
      {list.isSuccess && blueprints.length === 0 ? <Empty title={text.start.none} /> : null}
      {list.isSuccess ? (
        <nav className="cards" aria-label={text.start.choose}>
          {blueprints.map((each) => (
            <Link key={each.name} href={to(["start"], { blueprint: each.name })} className="card" aria-current={chosen === each.name ? "true" : undefined}>
              <strong>{each.title || each.name}</strong>
              <span className="dim small">{each.description}</span>
              <span className="dim small">
                {text.start.steps(each.nodes.length)}, {text.start.version(each.version)}
              </span>
            </Link>
          ))}
          <Link href={to(["start"], { blueprint: INTENT })} className="card" aria-current={chosen === INTENT ? "true" : undefined}>
            <strong>{text.start.intentCard}</strong>
            <span className="dim small">{text.start.intentHint}</span>
          </Link>
        </nav>
      ) : null}
      {blueprint ? <StartForm key={blueprint.name} blueprint={blueprint} /> : chosen === INTENT ? <StartForm key={INTENT} blueprint={null} /> : null}
    </div>
  );
}

function StartForm({ blueprint }: { blueprint: Blueprint | null }) {
  const form = useMemo(() => (blueprint ? formOf({ type: "object", properties: {}, ...blueprint.input_schema }, blueprint.defaults) : null), [blueprint]);
  const [raw, setRaw] = useState<Raw>(() => (form ? rawOf(form) : {}));
  const [errors, setErrors] = useState<Record<string, string>>({});
  const [intent, setIntent] = useState("");
  const [traceId, setTraceId] = useState("");
  const [labels, setLabels] = useState("");
  const [problem, setProblem] = useState<string[]>([]);
  const [busy, setBusy] = useState(false);
  const box = useRef<HTMLFormElement>(null);
  const key = useRef({ body: "", key: "" });
  const ids = { intent: useId(), trace: useId(), labels: useId() };

  const request = (): StartRequest => ({
    ...(blueprint ? { blueprint: blueprint.name } : {}),
    ...(intent.trim() ? { intent: intent.trim() } : {}),
    ...(form ? { input: read(form, raw).value as Record<string, unknown> } : {}),
    ...(traceId.trim() ? { trace_id: traceId.trim() } : {}),
    ...(labels.trim() ? { labels: labelsOf(labels) } : {}),
  });

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    const missing: Record<string, string> = intent.trim() ? {} : { intent: "Expected an intent, but it is empty." };
    const found = form ? read(form, raw) : { errors: missing };
    setErrors(found.errors);
    setProblem([]);
    if (Object.keys(found.errors).length > 0) return focusFirstError(box.current);
    setBusy(true);
    const body = JSON.stringify(request());
    if (key.current.body !== body) key.current = { body, key: crypto.randomUUID?.() ?? String(Math.random()) };
    try {
      const { trace_id } = await client.start(request(), { idempotencyKey: key.current.key });
      go(to(["workflows", trace_id]));
    } catch (error) {
      setBusy(false);
      if (error instanceof Problem && form && error.errors.length > 0) {
        const told = placed(form, error.errors);
        setErrors(told.fields);
        setProblem(told.rest.length > 0 || Object.keys(told.fields).length === 0 ? [error.detail, ...told.rest] : []);
        focusFirstError(box.current);
      } else setProblem([error instanceof Problem ? error.detail : String(error)]);
    }
  };

  return (
    <div className="start-body">
      <form onSubmit={submit} ref={box} noValidate className="start-form">
        {form && form.fields.length > 0 ? (
          <>
            <h2>{text.start.input}</h2>
            <Fields form={form} raw={raw} errors={errors} label={text.start.input} disabled={busy} onChange={(pointer, value) => setRaw((now) => ({ ...now, [pointer]: value }))} />
          </>
        ) : null}
        {blueprint ? null : (
          <div className="field">
            <label htmlFor={ids.intent}>{text.start.intent}</label>
            <textarea id={ids.intent} rows={3} value={intent} maxLength={4000} aria-invalid={errors.intent ? true : undefined} aria-describedby={`${ids.intent}-e`} onChange={(event) => setIntent(event.target.value)} />
            {errors.intent ? (
              <p id={`${ids.intent}-e`} className="field-error">
                {errors.intent}
              </p>
            ) : null}
          </div>
        )}
        <details>
          <summary>{text.start.options}</summary>
          {blueprint ? (
            <div className="field">
              <label htmlFor={ids.intent}>{text.start.intent}</label>
              <input id={ids.intent} value={intent} maxLength={4000} onChange={(event) => setIntent(event.target.value)} />
            </div>
          ) : null}
          <div className="field">
            <label htmlFor={ids.trace}>{text.start.traceId}</label>
            <input id={ids.trace} value={traceId} maxLength={64} aria-describedby={`${ids.trace}-h`} onChange={(event) => setTraceId(event.target.value)} />
            <p id={`${ids.trace}-h`} className="dim small">
              {text.start.traceIdHint}
            </p>
          </div>
          <div className="field">
            <label htmlFor={ids.labels}>{text.start.labels}</label>
            <input id={ids.labels} value={labels} placeholder={text.start.labelsHint} onChange={(event) => setLabels(event.target.value)} />
          </div>
        </details>
        {problem.length > 0 ? (
          <div className="notice" data-tone="bad" role="alert">
            {problem.map((each) => (
              <p key={each} className="wrap">
                {each}
              </p>
            ))}
          </div>
        ) : null}
        <p className="row">
          <button type="submit" className="button primary" disabled={busy}>
            {busy ? text.start.starting : text.start.submit}
          </button>
          <CopyButton label={text.start.curl} value={() => curl(window.location.origin, "/workflows", request())} />
        </p>
      </form>
      {blueprint ? <Plan blueprint={blueprint} /> : null}
    </div>
  );
}

function labelsOf(typed: string): Record<string, string> {
  const pairs = typed.split(",").map((each) => each.trim()).filter(Boolean);
  return Object.fromEntries(pairs.map((each) => [each.split(":")[0]?.trim() ?? each, each.slice(each.indexOf(":") + 1).trim()]));
}

/** The steps of a blueprint, none of them begun. */
export function plannedNodes(blueprint: Blueprint): NodeView[] {
  return blueprint.nodes.map((node) => ({
    id: String(node.id),
    agent: String(node.agent ?? ""),
    action: String(node.action ?? ""),
    depends_on: Array.isArray(node.depends_on) ? node.depends_on.map(String) : [],
    state: "PENDING",
    attempt: 0,
    max_attempts: 1,
    started_at: null,
    finished_at: null,
    output: null,
    error: null,
  }));
}

function Plan({ blueprint }: { blueprint: Blueprint }) {
  const nodes = useMemo(() => plannedNodes(blueprint), [blueprint]);
  const narrow = useNarrow();
  return (
    <section className="start-plan">
      <h2>{text.start.plan}</h2>
      {narrow ? (
        <Outline nodes={nodes} selected={null} onSelect={() => {}} />
      ) : (
        <Place fallback={<div className="graph graph-small" />}>
          <div className="graph-small">
            <Picture nodes={nodes} selected={null} onSelect={() => {}} calm />
          </div>
        </Place>
      )}
    </section>
  );
}

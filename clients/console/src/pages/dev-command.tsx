/** Any order of the API, written by hand. */

import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useId, useState } from "react";
import { client } from "../live/client.js";
import { curl } from "../model/curl.js";
import { filled, type Operation, operationsOf } from "../model/operations.js";
import { Link, setQuery, to, useAddress } from "../model/router.js";
import { dev } from "../text-dev.js";
import { Json } from "../ui/evidence.js";
import { CopyButton, Failed, Skeleton } from "../ui/parts.js";

const t = dev.command;

export function Commands() {
  const { query } = useAddress();
  const document = useQuery({ queryKey: ["openapi"], queryFn: async () => operationsOf((await client.bench.call("GET", "/openapi.json")).body), staleTime: Number.POSITIVE_INFINITY });
  const field = useId();
  if (document.isPending) return <Skeleton />;
  if (document.isError) return <Failed error={document.error} again={() => void document.refetch()} />;
  const chosen = document.data.find((each) => each.id === query.get("do")) ?? document.data.find((each) => each.path === "/workflows") ?? document.data[0];
  return (
    <div className="stack dev-narrow">
      <p className="dim">{t.hint}</p>
      <div className="field">
        <label htmlFor={field}>{t.operation}</label>
        <select id={field} value={chosen?.id} onChange={(event) => setQuery({ do: event.target.value })}>
          {document.data.map((each) => (
            <option key={each.id} value={each.id}>{`${each.id} · ${each.summary}`}</option>
          ))}
        </select>
      </div>
      {chosen ? <Order key={chosen.id} of={chosen} /> : null}
    </div>
  );
}

function Order({ of }: { of: Operation }) {
  const [values, setValues] = useState<Record<string, string>>({});
  const [typed, setTyped] = useState(() => JSON.stringify(of.example, null, 2));
  const [fault, setFault] = useState("");
  const [answer, setAnswer] = useState<{ status: number; body: unknown } | null>(null);
  const [busy, setBusy] = useState(false);
  const id = useId();
  const path = filled(of.path, values);

  const send = async (event: FormEvent) => {
    event.preventDefault();
    setAnswer(null);
    const missing = of.names.find((name) => !values[name]?.trim());
    if (missing) return setFault(t.missing(missing));
    let body: unknown;
    try {
      body = JSON.parse(typed || "{}");
    } catch (error) {
      return setFault(t.notJson((error as Error).message));
    }
    setFault("");
    setBusy(true);
    try {
      setAnswer(await client.bench.call("POST", path, body));
    } catch (error) {
      setFault(error instanceof Error ? error.message : String(error));
    } finally {
      setBusy(false);
    }
  };

  return (
    <form onSubmit={send} className="stack" noValidate>
      {of.names.map((name) => (
        <div key={name} className="field">
          <label htmlFor={`${id}-${name}`}>
            <code>{name}</code>
          </label>
          <input id={`${id}-${name}`} value={values[name] ?? ""} autoComplete="off" onChange={(event) => setValues((now) => ({ ...now, [name]: event.target.value }))} />
        </div>
      ))}
      <div className="field">
        <label htmlFor={`${id}-body`}>{t.body}</label>
        <textarea id={`${id}-body`} className="mono" rows={Math.min(16, typed.split("\n").length + 1)} value={typed} spellCheck={false} aria-describedby={`${id}-fields`} onChange={(event) => setTyped(event.target.value)} />
        <p id={`${id}-fields`} className="dim small wrap">
          {t.fields(of.fields.join(", ") || t.none)}
        </p>
      </div>
      {fault ? (
        <p className="field-error" role="alert">
          {fault}
        </p>
      ) : null}
      <p className="row">
        <button type="submit" className="button primary" disabled={busy}>
          {busy ? t.sending : t.send}
        </button>
        <CopyButton label={t.curl} value={() => curl(window.location.origin, path, read(typed))} />
      </p>
      {answer ? <Answer of={answer} /> : null}
    </form>
  );
}

function Answer({ of: { status, body } }: { of: { status: number; body: unknown } }) {
  const trace = typeof body === "object" && body !== null && "trace_id" in body ? String(body.trace_id) : null;
  return (
    <section className="stack" aria-live="polite" data-testid="answer">
      <h2>{t.answer}</h2>
      <p className="row">
        <span className="chip" data-tone={status < 300 ? "good" : "bad"}>
          {t.status(status)}
        </span>
        {trace ? <Link href={to(["workflows", trace])}>{t.open}</Link> : null}
      </p>
      <Json value={body} label={t.answer} />
    </section>
  );
}

function read(typed: string): unknown {
  try {
    return JSON.parse(typed || "{}");
  } catch {
    return {};
  }
}

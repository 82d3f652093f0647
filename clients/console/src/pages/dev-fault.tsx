/** Faults, ordered: a step that goes wrong, a record that nobody can read. */

import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useId, useState } from "react";
import { client } from "../live/client.js";
import { started } from "../live/dev.js";
import { curl } from "../model/curl.js";
import { type Fault, planOf } from "../model/faults.js";
import { Link, to } from "../model/router.js";
import { dev } from "../text-dev.js";
import { CopyButton } from "../ui/parts.js";
import { toast } from "../ui/toasts.js";

const t = dev.fault;

export function Faults() {
  return (
    <div className="dev-two">
      <Step />
      <Unreadable />
    </div>
  );
}

function Step() {
  const [fault, setFault] = useState<Fault>({ outcome: "error:TIMEOUT", times: 2, effect: "idempotent", undoFails: false });
  const id = useId();
  const request = () => ({ intent: `${t.kinds[fault.outcome]}`, plan: planOf(fault) });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void started(request());
  };
  const choices = (name: "outcome" | "effect", label: string, of: Record<string, string>) => (
    <div className="field">
      <label htmlFor={`${id}-${name}`}>{label}</label>
      <select id={`${id}-${name}`} value={fault[name]} onChange={(event) => setFault({ ...fault, [name]: event.target.value })}>
        {Object.entries(of).map(([value, word]) => (
          <option key={value} value={value}>
            {word}
          </option>
        ))}
      </select>
    </div>
  );
  return (
    <form onSubmit={submit} className="stack">
      <h2>{dev.tabs.fault}</h2>
      <p className="dim">{t.hint}</p>
      {choices("outcome", t.what, t.kinds)}
      <div className="field">
        <label htmlFor={`${id}-times`}>{t.times}</label>
        <select id={`${id}-times`} value={fault.times} aria-describedby={`${id}-hint`} onChange={(event) => setFault({ ...fault, times: Number(event.target.value) })}>
          {[1, 2, 0].map((n) => (
            <option key={n} value={n}>
              {n === 0 ? t.always : n}
            </option>
          ))}
        </select>
        <p id={`${id}-hint`} className="dim small">
          {t.timesHint}
        </p>
      </div>
      {choices("effect", t.effect, t.effects)}
      <label className="check">
        <input type="checkbox" checked={fault.undoFails} onChange={(event) => setFault({ ...fault, undoFails: event.target.checked })} />
        {t.undo}
      </label>
      <p className="row">
        <button type="submit" className="button primary">
          {t.start}
        </button>
        <CopyButton label={dev.command.curl} value={() => curl(window.location.origin, "/workflows", request())} />
      </p>
    </form>
  );
}

function Unreadable() {
  const topics = useQuery({ queryKey: ["dev-topics"], queryFn: () => client.bench.topics() });
  const [topic, setTopic] = useState("handrail.results");
  const [typed, setTyped] = useState<string>(t.recordText);
  const [sent, setSent] = useState("");
  const id = useId();
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    try {
      await client.bench.send(topic, { text: typed, key: "default/nobody" });
      setSent(topic);
    } catch (error) {
      toast(t.recordTitle, error instanceof Error ? error.message : String(error), true);
    }
  };
  return (
    <form onSubmit={submit} className="stack">
      <h2>{t.recordTitle}</h2>
      <p className="dim">{t.recordHint}</p>
      <div className="field">
        <label htmlFor={`${id}-topic`}>{t.topic}</label>
        <select id={`${id}-topic`} value={topic} onChange={(event) => setTopic(event.target.value)}>
          {(topics.data?.items ?? [{ topic }]).map((each) => (
            <option key={each.topic} value={each.topic}>
              {each.topic}
            </option>
          ))}
        </select>
      </div>
      <div className="field">
        <label htmlFor={`${id}-text`}>{t.record}</label>
        <textarea id={`${id}-text`} className="mono" rows={4} value={typed} spellCheck={false} onChange={(event) => setTyped(event.target.value)} />
      </div>
      <p className="row">
        <button type="submit" className="button">
          {t.send}
        </button>
      </p>
      {sent ? (
        <p className="notice" role="status">
          {t.sent(sent)}. {t.sentHint} <Link href={to(["dead-letters"], { tab: "quarantine" })}>{t.quarantine}</Link>
        </p>
      ) : null}
    </form>
  );
}

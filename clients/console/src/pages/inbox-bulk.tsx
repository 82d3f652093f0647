/** Many alike, decided together: one first, and the others only when a person has seen that it went well. */

import { type Pause, Problem, type Resolution } from "@handrail/client";
import { useMemo, useRef, useState } from "react";
import { client } from "../live/client.js";
import { type Cluster, commonResolutions } from "../model/clusters.js";
import { formOf, placed, type Raw, rawOf, read } from "../model/forms.js";
import { nodeLook } from "../model/status.js";
import { Link, to } from "../model/router.js";
import { text } from "../text.js";
import { Dialog } from "../ui/dialog.js";
import { Fields, focusFirstError } from "../ui/form.js";

type Step =
  | { name: "choose" }
  | { name: "trying"; accepted: boolean }
  | { name: "tried"; well: boolean; what: string }
  | { name: "rest"; done: number; failed: readonly { pause: Pause; why: string }[]; over: boolean };

export function BulkDialog({ cluster, onClose }: { cluster: Cluster; onClose: () => void }) {
  // What was alike when the dialog was opened: it does not grow under one's hands.
  const [pauses] = useState(() => [...cluster.pauses].sort((a, b) => Date.parse(a.at) - Date.parse(b.at)));
  const buttons = useMemo(() => commonResolutions(pauses), [pauses]);
  const [action, setAction] = useState<string | null>(null);
  const chosen = buttons.find((each) => each.action_id === action) ?? null;
  const form = useMemo(() => (chosen?.requires_input ? formOf(chosen.input_schema) : null), [chosen]);
  const [raw, setRaw] = useState<Raw>({});
  const [errors, setErrors] = useState<Record<string, string>>({});
  const [comment, setComment] = useState("");
  const [step, setStep] = useState<Step>({ name: "choose" });
  const box = useRef<HTMLDivElement>(null);
  const abort = useRef(new AbortController());
  const [first, ...rest] = pauses;
  const t = text.bulk;

  const decide = (pause: Pause, resolution: Resolution, input: unknown) =>
    client.resume(pause.trace_id, {
      action_id: resolution.action_id,
      pause_id: pause.pause_id,
      ...(resolution.requires_input ? { input } : {}),
      ...(pause.evidence_digest ? { evidence_digest: pause.evidence_digest } : {}),
      ...(comment.trim() ? { comment: comment.trim() } : {}),
    });

  const tryFirst = async () => {
    if (!first || !chosen) return;
    const found = form ? read(form, raw) : { value: undefined, errors: {} };
    setErrors(found.errors);
    if (Object.keys(found.errors).length > 0) return focusFirstError(box.current);
    setStep({ name: "trying", accepted: false });
    try {
      await decide(first, chosen, found.value);
      setStep({ name: "trying", accepted: true });
      setStep({ name: "tried", ...(await outcome(first, abort.current.signal)) });
    } catch (error) {
      if (error instanceof Problem && form && error.errors.length > 0) {
        setErrors(placed(form, error.errors).fields);
        setStep({ name: "choose" });
        focusFirstError(box.current);
      } else setStep({ name: "tried", well: false, what: error instanceof Problem ? error.detail : String(error) });
    }
  };

  const doRest = async () => {
    if (!chosen) return;
    const input = form ? read(form, raw).value : undefined;
    const failed: { pause: Pause; why: string }[] = [];
    let done = 0;
    for (const pause of rest) {
      if (abort.current.signal.aborted) break;
      try {
        await decide(pause, chosen, input);
        done += 1;
      } catch (error) {
        failed.push({ pause, why: error instanceof Problem ? error.detail : String(error) });
      }
      setStep({ name: "rest", done, failed: [...failed], over: false });
    }
    setStep({ name: "rest", done, failed, over: true });
  };

  const close = () => {
    abort.current.abort();
    onClose();
  };

  return (
    <Dialog open onClose={close} title={t.title(pauses.length)}>
      <div ref={box} className="stack" data-testid="bulk">
        <p>{t.hint}</p>
        {buttons.length === 0 ? <p className="notice">{t.noCommon}</p> : null}
        {step.name === "choose" && buttons.length > 0 ? (
          <>
            <fieldset className="choices">
              <legend>{t.choose}</legend>
              {buttons.map((each) => (
                <label key={each.action_id} className="check">
                  <input
                    type="radio"
                    name="bulk-action"
                    checked={action === each.action_id}
                    onChange={() => {
                      setAction(each.action_id);
                      setRaw(each.requires_input ? rawOf(formOf(each.input_schema)) : {});
                      setErrors({});
                    }}
                  />
                  {each.display_text}
                </label>
              ))}
            </fieldset>
            {form && chosen ? <Fields form={form} raw={raw} errors={errors} label={chosen.display_text} onChange={(pointer, value) => setRaw((now) => ({ ...now, [pointer]: value }))} /> : null}
            <label className="field">
              {text.pause.comment}
              <textarea rows={1} value={comment} onChange={(event) => setComment(event.target.value)} />
            </label>
            <p className="row">
              <button type="button" className={`button ${chosen?.style === "danger" ? "danger solid" : "primary"}`} disabled={!chosen} onClick={() => void tryFirst()}>
                {t.first}
              </button>
              <span className="dim small">{first?.trace_id}</span>
            </p>
          </>
        ) : null}
        <Told step={step} first={first} rest={rest.length} doRest={() => void doRest()} stop={close} />
      </div>
    </Dialog>
  );
}

function Told({ step, first, rest, doRest, stop }: { step: Step; first: Pause | undefined; rest: number; doRest: () => void; stop: () => void }) {
  const t = text.bulk;
  if (step.name === "choose" || !first) return null;
  if (step.name === "trying") {
    return (
      <p className="notice" role="status">
        {step.accepted ? t.waiting : t.trying(first.trace_id)}
      </p>
    );
  }
  if (step.name === "tried") {
    return (
      <div className="notice" data-tone={step.well ? "good" : "bad"} role="status" data-testid="bulk-tried">
        <p className="wrap">
          {step.well ? t.wentWell(step.what) : t.wentBadly(step.what)} <Link href={to(["workflows", first.trace_id])}>{first.trace_id}</Link>
        </p>
        <p className="row">
          <button type="button" className={`button ${step.well ? "primary" : "danger"}`} onClick={doRest}>
            {step.well ? t.rest(rest) : t.anyway(rest)}
          </button>
          <button type="button" className="button quiet" onClick={stop}>
            {t.stop}
          </button>
        </p>
      </div>
    );
  }
  return (
    <div className="notice" data-tone={step.failed.length > 0 ? "bad" : "good"} role="status" data-testid="bulk-rest">
      <p>{step.over ? t.done(step.done) : t.progress(step.done + step.failed.length, rest)}</p>
      {step.failed.length > 0 ? (
        <>
          <p>{t.failed(step.failed.length)}</p>
          <ul>
            {step.failed.map(({ pause, why }) => (
              <li key={pause.pause_id} className="wrap">
                <Link href={to(["workflows", pause.trace_id])}>{pause.trace_id}</Link> {why}
              </li>
            ))}
          </ul>
        </>
      ) : null}
    </div>
  );
}

const SETTLED = new Set(["COMPLETE", "SKIPPED", "CANCELLED", "COMPENSATED", "NOT_REVERSIBLE", "NOTHING_TO_UNDO"]);

/** Waits until the step of a decided pause has come to something: done, or stopped again. */
async function outcome(pause: Pause, signal: AbortSignal): Promise<{ well: boolean; what: string }> {
  for await (const { view } of client.watch(pause.trace_id, { signal })) {
    if (view.pauses.has(pause.pause_id)) continue;
    const node = pause.node_id ? view.nodes.get(pause.node_id) : undefined;
    const again = [...view.pauses.values()].find((each) => each.node_id === pause.node_id);
    if (again) return { well: false, what: again.failure_reason };
    if (node && SETTLED.has(node.state)) return { well: true, what: `${node.id} ${nodeLook(node.state).word.toLowerCase()}` };
    if (view.ended) return { well: view.status !== "FAILED" && view.status !== "COMPENSATION_INCOMPLETE", what: view.status };
  }
  return { well: false, what: text.common.unknown };
}

/** Exactly the offered buttons, in their order; each says what it would do before it is pressed. */

import type { Pause, Preview, Resolution } from "@handrail/client";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useId, useMemo, useRef, useState } from "react";
import { client } from "../live/client.js";
import { useDraft } from "../live/drafts.js";
import { useCalm, useNarrow, useOnline } from "../live/hooks.js";
import { usePreferences } from "../live/preferences.js";
import { curl } from "../model/curl.js";
import { consequence, touchesIrreversible } from "../model/effects.js";
import { isHighRisk } from "../model/risk.js";
import { Link, to } from "../model/router.js";
import { relative } from "../model/time.js";
import { formOf, placed, type Raw, rawOf, read } from "../model/forms.js";
import { text } from "../text.js";
import { Fields, focusFirstError } from "../ui/form.js";
import { useKeys } from "../ui/keys.js";
import { CopyButton } from "../ui/parts.js";
import { OVER, type Phase, useDecision } from "./decide.js";
import { labelOf } from "./closed.js";
import { proposedArgs } from "./proposed.js";
import { Changes } from "./changes.js";

export const WORD = "undo";

interface Props {
  pause: Pause;
  stale: boolean;
  /** How far the workflow has come, where that is followed; else what an option would do is asked again now and then. */
  cursor: string | undefined;
  onAgain: () => void;
}

/** What an option would do changes while other branches go on: asked again so often at most where the workflow is followed, so often where it is not. */
const FOLLOWED_MS = 500;
const NOT_FOLLOWED_MS = 3_000;

export function Options({ pause, stale, cursor, onAgain }: Props) {
  const { phase, press, forget } = useDecision(pause);
  const calm = useCalm(cursor, FOLLOWED_MS);
  const [{ chosen, comment, raw }, write] = useDraft(pause.pause_id);
  const setChosen = (action: string | null) => write(() => ({ chosen: action }));
  const [commentError, setCommentError] = useState("");
  const [override, setOverride] = useState(false);
  const online = useOnline();
  const narrow = useNarrow();
  const box = useRef<HTMLElement>(null);
  const fire = useRef<(() => void) | null>(null);
  const commentId = useId();
  const actor = usePreferences((p) => p.actor);
  const forOthers = (pause.assignees ?? []).includes(actor) ? [] : (pause.assignees ?? []);
  const busy = phase.name === "sending" || phase.name === "accepted";
  const over = phase.name === "refused" && OVER.has(phase.problem.code);
  const disabled = busy || stale || !online || over;
  if (chosen === null) fire.current = null;
  const mustExplain = needsComment(pause, pause.available_resolutions.find((each) => each.action_id === chosen));
  const buttons = useMemo(() => ordered(pause.available_resolutions), [pause.available_resolutions]);

  /** Opens an option, or closes it: by whatever hand, what there is to do next is in sight and has the focus. */
  const choose = (action: string, on: boolean) => {
    setChosen(on ? action : null);
    if (!busy) forget();
    requestAnimationFrame(() => {
      const place = box.current?.querySelector(`[data-option="${CSS.escape(action)}"]`);
      (place?.querySelector<HTMLElement>("input, textarea, select") ?? place?.querySelector<HTMLElement>("button"))?.focus();
      place?.scrollIntoView({ block: "nearest" });
    });
  };

  useKeys((key) => {
    const button = buttons[Number(key) - 1];
    if (!button || disabled) return;
    choose(button.action_id, true);
    return true;
  });

  const send = async (resolution: Resolution, input: unknown): Promise<Phase | null> => {
    if (needsComment(pause, resolution) && !comment.trim()) {
      setCommentError(text.pause.commentMissing);
      document.getElementById(commentId)?.focus();
      return null;
    }
    setCommentError("");
    return press({ resolution, input, comment, override });
  };

  return (
    <section
      className="options"
      ref={box}
      aria-label={text.pause.options}
      onKeyDown={(event) => {
        if ((event.metaKey || event.ctrlKey) && event.key === "Enter" && fire.current) {
          event.preventDefault();
          fire.current();
        } else if (event.key === "Escape" && chosen) {
          event.stopPropagation();
          setChosen(null);
        }
      }}
    >
      <h3>{text.pause.options}</h3>
      {forOthers.length > 0 ? (
        <p className="notice" data-tone="warn">
          {text.pause.notYours(forOthers.join(", "))}
        </p>
      ) : null}
      <Told pause={pause} phase={phase} override={override} setOverride={setOverride} onAgain={onAgain} />
      <ol>
        {buttons.map((each, i) => (
          <Option
            key={each.action_id}
            n={i + 1}
            pause={pause}
            resolution={each}
            cursor={calm}
            chosen={chosen === each.action_id}
            phase={phase}
            disabled={disabled}
            choose={(on) => choose(each.action_id, on)}
            send={send}
            register={(call) => {
              fire.current = call;
            }}
            comment={comment}
            typed={raw[each.action_id]}
            type={(form, pointer, value) => write((now) => ({ raw: { ...now.raw, [each.action_id]: { ...(now.raw[each.action_id] ?? form), [pointer]: value } } }))}
          />
        ))}
      </ol>
      <details className="comment" open={!narrow || mustExplain || commentError !== ""}>
        <summary>
          <label htmlFor={commentId}>
          {text.pause.comment}{" "}
          <span className="dim small">
              {mustExplain ? text.pause.commentRequired : text.pause.commentOptional}
            </span>
          </label>
        </summary>
        <textarea id={commentId} rows={1} maxLength={4000} value={comment} disabled={busy || over} aria-required={mustExplain} aria-invalid={commentError ? true : undefined} aria-describedby={commentError ? `${commentId}-error` : undefined} onChange={(event) => write(() => ({ comment: event.target.value }))} />
        {commentError ? (
          <p id={`${commentId}-error`} className="field-error">
            {commentError}
          </p>
        ) : null}
      </details>
      <p className="dim small wide-only">{text.pause.keys}</p>
    </section>
  );
}

/** In the given order, danger last. */
export function ordered(all: readonly Resolution[]): Resolution[] {
  return [...all.filter((each) => each.style !== "danger"), ...all.filter((each) => each.style === "danger")];
}

/** A refusal is explained, and so is whatever carries a high risk. */
function needsComment(pause: Pause, resolution: Resolution | undefined): boolean {
  return isHighRisk(pause) || resolution?.kind === "reject";
}

function Told(props: { pause: Pause; phase: Phase; override: boolean; setOverride: (on: boolean) => void; onAgain: () => void }) {
  const { pause, phase, override, setOverride, onAgain } = props;
  if (phase.name === "sending" || phase.name === "accepted") {
    return (
      <p className="notice" role="status" data-testid="phase">
        {phase.name === "sending" ? text.pause.sending : text.pause.accepted}: {labelOf(pause, phase.action)}
      </p>
    );
  }
  if (phase.name === "unreachable") {
    return (
      <p className="notice" data-tone="bad" role="alert" data-testid="phase">
        {text.pause.unreachable} ({phase.reason})
      </p>
    );
  }
  if (phase.name !== "refused") return null;
  const { problem } = phase;
  const { resolved_by: who, resolved_at: at, channel, action_id: action } = problem.body as Record<string, unknown>;
  return (
    <div className="notice" data-tone="bad" role="alert" data-testid="phase" data-code={problem.code}>
      <strong>
        {problem.code === "already-resolved" && who
          ? text.pause.doneOther(String(who), String(channel ?? ""), relative(at as string | undefined, Date.now()), labelOf(pause, action))
          : `${text.pause.refused}: ${problem.code}`}
      </strong>
      <p className="wrap">{problem.detail}</p>
      {OVER.has(problem.code) ? (
        <p className="row">
          <Link className="button" href={to(["workflows", pause.trace_id], { tab: "graph" })}>
            {text.pause.viewResult}
          </Link>
          <Link className="button quiet" href={to(["workflows", pause.trace_id], { tab: "audit" })}>
            {text.pause.viewAudit}
          </Link>
        </p>
      ) : null}
      {problem.code === "evidence-changed" ? (
        <button type="button" className="button" onClick={onAgain}>
          {text.pause.readAgain}
        </button>
      ) : null}
      {problem.code === "claimed" ? (
        <label className="check">
          <input type="checkbox" checked={override} onChange={(event) => setOverride(event.target.checked)} />
          {text.pause.override}
        </label>
      ) : null}
    </div>
  );
}

interface OptionProps {
  n: number;
  pause: Pause;
  resolution: Resolution;
  cursor: string | undefined;
  chosen: boolean;
  phase: Phase;
  disabled: boolean;
  comment: string;
  /** What its form holds; undefined as long as nobody has typed. */
  typed: Raw | undefined;
  type: (initial: Raw, pointer: string, value: string | boolean) => void;
  choose: (on: boolean) => void;
  send: (resolution: Resolution, input: unknown) => Promise<Phase | null>;
  register: (fire: (() => void) | null) => void;
}

function Option(props: OptionProps) {
  const { n, pause, resolution, cursor, chosen, phase, disabled, choose, send, register, comment, typed, type } = props;
  const { action_id: action, display_text: label, requires_input: asks, style } = resolution;
  const preview = usePreview(pause, action, cursor);
  const proposed = resolution.kind === "edit" ? proposedArgs(pause) : undefined;
  const form = useMemo(() => (asks ? formOf(resolution.input_schema, proposed) : null), [asks, resolution.input_schema, proposed]);
  const initial = useMemo(() => (form ? rawOf(form) : {}), [form]);
  const raw = typed ?? initial;
  const [errors, setErrors] = useState<Record<string, string>>({});
  const [word, setWord] = useState("");
  const box = useRef<HTMLLIElement>(null);
  const danger = style === "danger";
  const mustType = danger && preview.data !== undefined && touchesIrreversible(preview.data);
  const mine = (phase.name === "sending" || phase.name === "accepted") && phase.action === action;
  const edited = useMemo(() => new Set(proposed === undefined ? [] : Object.keys(raw).filter((pointer) => raw[pointer] !== initial[pointer])), [raw, initial, proposed]);
  const found = form ? read(form, raw) : { value: undefined, errors: {} };

  const fire = async () => {
    if (disabled || (mustType && word.trim().toLowerCase() !== WORD)) return;
    if (Object.keys(found.errors).length > 0) {
      setErrors(found.errors);
      focusFirstError(box.current);
      return;
    }
    setErrors({});
    const next = await send(resolution, found.value);
    if (next?.name === "refused" && form && next.problem.errors.length > 0) {
      const { fields } = placed(form, next.problem.errors);
      setErrors(fields);
      focusFirstError(box.current);
    }
  };
  if (chosen) register(() => void fire());

  const direct = !asks && !danger;
  const body = { action_id: action, pause_id: pause.pause_id, ...(asks ? { input: found.value } : {}), ...(comment.trim() ? { comment: comment.trim() } : {}) };
  return (
    <li ref={box} data-option={action} className={`option ${chosen ? "chosen" : ""}`}>
      <button
        type="button"
        className={`button option-button ${style ?? "neutral"}`}
        disabled={disabled}
        aria-expanded={direct ? undefined : chosen}
        aria-describedby={`effect-${pause.pause_id}-${action}`}
        data-action={action}
        onClick={() => (direct ? void fire() : choose(!chosen))}
      >
        <kbd aria-hidden>{n}</kbd>
        <span>{label}</span>
        {mine ? <span className="dim small">{phase.name === "sending" ? text.pause.sending : text.pause.accepted}</span> : null}
      </button>
      <p id={`effect-${pause.pause_id}-${action}`} className="effect dim small">
        {preview.isError ? text.pause.previewFailed : preview.data ? consequence(preview.data, resolution.kind) : text.pause.previewLoading}
      </p>
      {chosen ? (
        <div className="option-form">
          {form ? (
            <Fields
              form={form}
              raw={raw}
              errors={errors}
              label={label}
              disabled={disabled}
              edited={edited}
              onChange={(pointer, value) => type(initial, pointer, value)}
              onReset={(pointer) => type(initial, pointer, initial[pointer] ?? "")}
            />
          ) : null}
          {preview.data ? <Changes of={preview.data} /> : null}
          {mustType ? (
            <label className="field">
              {text.pause.typeWord(WORD)}
              <input value={word} autoComplete="off" onChange={(event) => setWord(event.target.value)} />
            </label>
          ) : null}
          {proposed !== undefined && edited.size === 0 ? <p className="dim small">{text.approve.unchanged}</p> : null}
          <p className="row">
            <button
              type="button"
              className={`button ${danger ? "danger solid" : "primary"}`}
              disabled={disabled || (mustType && word.trim().toLowerCase() !== WORD) || (proposed !== undefined && edited.size === 0)}
              data-confirm={action}
              onClick={() => void fire()}
            >
              {danger ? text.pause.confirm(label) : label}
            </button>
            <button type="button" className="button quiet" onClick={() => choose(false)}>
              {text.common.cancel}
            </button>
            <CopyButton label={text.pause.curl} value={() => curl(window.location.origin, `/workflows/${encodeURIComponent(pause.trace_id)}/resume`, body)} />
          </p>
        </div>
      ) : null}
    </li>
  );
}

function usePreview(pause: Pause, actionId: string, cursor: string | undefined) {
  return useQuery<Preview>({
    queryKey: ["preview", pause.trace_id, pause.pause_id, actionId, cursor],
    queryFn: ({ signal }) => client.preview(pause.trace_id, pause.pause_id, actionId, { signal }),
    placeholderData: keepPreviousData,
    refetchInterval: cursor === undefined ? NOT_FOLLOWED_MS : false,
    retry: 1,
    staleTime: 2_000,
    gcTime: 10_000,
  });
}

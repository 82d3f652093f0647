/** Small parts that every page uses. */

import { Check, Copy } from "lucide-react";
import { type ReactNode, useEffect, useState } from "react";
import { useNow } from "../live/hooks.js";
import { type Look, nodeLook, workflowLook } from "../model/status.js";
import { absolute, duration, relative } from "../model/time.js";
import { text } from "../text.js";
import { StatusIcon } from "./icons.js";

export function Badge({ look, small = false }: { look: Look; small?: boolean }) {
  return (
    <span className={`badge ${small ? "badge-small" : ""}`} data-token={look.token}>
      <StatusIcon token={look.token} size={small ? 12 : 14} />
      <span>{look.word}</span>
    </span>
  );
}

export const NodeBadge = ({ state, small = false }: { state: string; small?: boolean }) => <Badge look={nodeLook(state)} small={small} />;
export const WorkflowBadge = ({ status, small = false }: { status: string; small?: boolean }) => (
  <Badge look={workflowLook(status)} small={small} />
);

/** Relative in text, absolute on hover. */
export function Ago({ at, prefix = "" }: { at: string | null | undefined; prefix?: string }) {
  const now = useNow(1000);
  if (!at) return null;
  return (
    <time dateTime={at} title={absolute(at)}>
      {prefix}
      {relative(at, now)}
    </time>
  );
}

/** How long it took, or has been going on. */
export function Took({ from, to }: { from: string | null | undefined; to: string | null | undefined }) {
  const now = useNow(1000, Boolean(from) && !to);
  if (!from) return null;
  const ms = (to ? Date.parse(to) : Math.max(now, Date.parse(from))) - Date.parse(from);
  return <span className="took">{duration(ms)}</span>;
}

export function CopyButton({ value, label = text.common.copy, small = false }: { value: string | (() => string); label?: string; small?: boolean }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1500);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async () => {
    await copyText(typeof value === "function" ? value() : value);
    setCopied(true);
  };
  return (
    <button type="button" className={`button quiet ${small ? "icon-only" : ""}`} onClick={copy} title={label} aria-label={small ? label : undefined}>
      {copied ? <Check size={14} aria-hidden /> : <Copy size={14} aria-hidden />}
      {small ? null : <span>{copied ? text.common.copied : label}</span>}
    </button>
  );
}

async function copyText(value: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(value);
  } catch {
    const area = document.createElement("textarea"); // plain http on another host has no clipboard
    area.value = value;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

export function Empty({ title, children, icon }: { title: string; children?: ReactNode; icon?: ReactNode }) {
  return (
    <div className="empty">
      {icon}
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** Shown only when it takes longer: flicker is worse than a moment of nothing. */
export function Skeleton({ lines = 4, label = text.common.loading }: { lines?: number; label?: string }) {
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 400);
    return () => clearTimeout(timer);
  }, []);
  return (
    <div className="skeleton" role="status" aria-label={label}>
      {late ? Array.from({ length: lines }, (_, i) => <div key={i} className="skeleton-line" />) : null}
    </div>
  );
}

export function Failed({ error, again }: { error: unknown; again?: () => void }) {
  return (
    <div className="notice" data-tone="bad" role="alert">
      <strong>{text.common.failed}</strong>
      <p className="wrap">{error instanceof Error ? error.message : String(error)}</p>
      {again ? (
        <button type="button" className="button" onClick={again}>
          {text.common.retry}
        </button>
      ) : null}
    </div>
  );
}

/** Key and value, one line each; values are text whatever they hold. */
export function Facts({ of }: { of: Record<string, unknown> }) {
  return (
    <dl className="facts">
      {Object.entries(of).map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{typeof value === "string" ? value : JSON.stringify(value)}</dd>
        </div>
      ))}
    </dl>
  );
}

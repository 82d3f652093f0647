/** Who decided what, over which channel, and what they saw. Read from the journal: nothing here can be changed. */

import type { Pause, WorkflowEvent } from "@handrail/client";
import { useMemo } from "react";
import { labelOf } from "../intervene/closed.js";
import type { Run } from "../live/run.js";
import { absolute, clock } from "../model/time.js";
import { text } from "../text.js";
import { asText, Json } from "../ui/evidence.js";

export interface Entry {
  seq: number;
  at: string;
  actor: string;
  by: string;
  channel: string;
  what: string;
  input: unknown;
  comment: string;
  pause: Pause | null;
}

/** Decisions, claims, words and policies, oldest first. */
export function auditOf(events: readonly WorkflowEvent[]): Entry[] {
  const pauses = new Map<string, Pause>();
  const found: Entry[] = [];
  for (const event of events) {
    if (event.event_type === "WORKFLOW_PAUSED_HITL") pauses.set(String(event.pause_id), event as unknown as Pause);
    const pause = pauses.get(String(event.pause_id)) ?? null;
    const what = whatOf(event, pause);
    if (what === null) continue;
    const actor = String(event.actor ?? event.claimed_by ?? (event.event_type === "GATE_EVALUATED" ? `policy ${String(event.policy_version)}` : "system"));
    found.push({
      seq: event.seq,
      at: event.at,
      actor,
      by: kindOf(event, actor),
      channel: String(event.channel ?? ""),
      what,
      input: event.input ?? null,
      comment: String(event.comment ?? ""),
      pause,
    });
  }
  return found;
}

function whatOf(event: WorkflowEvent, pause: Pause | null): string | null {
  switch (event.event_type) {
    case "HITL_RESOLVED":
      return `${String(event.outcome)}${event.action_id ? `: ${pause ? labelOf(pause, event.action_id) : String(event.action_id)}` : ""}`;
    case "PAUSE_UPDATED":
      return event.claimed_by ? text.audit.claimed(clock(event.claimed_until as string)) : event.reminded_at ? null : text.audit.released;
    case "MESSAGE_ADDED":
      return `${String(event.role)}: ${String(event.text)}`;
    case "GATE_EVALUATED":
      return `${text.audit.gate(String(event.decide))}${event.rule_id ? ` (${String(event.rule_id)})` : ""}, ${String(event.node_id)}`;
    default:
      return null;
  }
}

function kindOf(event: WorkflowEvent, actor: string): string {
  if (event.event_type === "GATE_EVALUATED") return "policy";
  if (actor === "system:timeout") return "timeout";
  if (actor.startsWith("system")) return "system";
  return actor.startsWith("policy") ? "policy" : "human";
}

export default function AuditTab({ run }: { run: Run }) {
  const entries = useMemo(() => auditOf(run.events), [run.events]);
  const c = text.audit.columns;
  if (entries.length === 0) return <p className="dim">{text.audit.empty}</p>;
  return (
    <div>
      <p className="row">
        <button type="button" className="button quiet" onClick={() => save(`${run.traceId}-audit.csv`, "text/csv", csv(entries))}>
          {text.audit.csv}
        </button>
        <button type="button" className="button quiet" onClick={() => save(`${run.traceId}-audit.json`, "application/json", JSON.stringify(entries, null, 2))}>
          {text.audit.json}
        </button>
      </p>
      <div className="table-scroll" tabIndex={0} role="region" aria-label={text.audit.title}>
        <table className="table">
          <thead>
            <tr>
              {[c.time, c.actor, c.channel, c.what, c.input, c.comment, c.saw].map((name) => (
                <th scope="col" key={name}>
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {entries.map((each) => (
              <tr key={each.seq}>
                <td>
                  <time dateTime={each.at}>{absolute(each.at)}</time>
                </td>
                <td>
                  {each.actor} <span className="dim small">{text.audit.kinds[each.by] ?? each.by}</span>
                </td>
                <td>{each.channel}</td>
                <td className="wrap">{each.what}</td>
                <td className="wrap mono">{each.input === null ? "" : asText(each.input)}</td>
                <td className="wrap">{each.comment}</td>
                <td>
                  {each.pause ? (
                    <details>
                      <summary>{text.audit.saw}</summary>
                      <Json value={each.pause} label={text.audit.columns.saw} open={false} />
                    </details>
                  ) : null}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}

/** A cell that a spreadsheet would run as a formula is made text. */
export function csvCell(value: unknown): string {
  const plain = value === null || value === undefined ? "" : asText(value);
  const safe = /^[=+\-@\t\r]/.test(plain) ? `'${plain}` : plain;
  return `"${safe.replaceAll('"', '""')}"`;
}

function csv(entries: readonly Entry[]): string {
  const head = ["seq", "at", "actor", "by", "channel", "what", "input", "comment"] as const;
  return [head.join(","), ...entries.map((each) => head.map((name) => csvCell(each[name])).join(","))].join("\r\n");
}

function save(name: string, type: string, content: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

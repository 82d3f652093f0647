/** What needs a person's consent, and why: policies in force, their rules, who applied them, what they have asked. */

import type { InboxPause, Json, Policy, PolicySimulation } from "@handrail/client";
import { Problem } from "@handrail/client";
import { useQuery } from "@tanstack/react-query";
import { useId, useMemo, useState } from "react";
import { client } from "../live/client.js";
import { useDesk } from "../live/hooks.js";
import { riskOf } from "../model/risk.js";
import { Link, to } from "../model/router.js";
import { conditionOf } from "../model/sentences.js";
import { text } from "../text.js";
import { Ago, Empty, Failed, Skeleton } from "../ui/parts.js";
import { usePageTitle } from "../ui/page-title.js";

interface Rule {
  id: string;
  decide: string;
  match?: Record<string, unknown>;
  because?: string | null;
}

/** So many decisions of the past are looked through for what a rule has asked. */
const PAST = 200;

export default function PoliciesPage() {
  usePageTitle(text.policies.title);
  const list = useQuery({ queryKey: ["policies"], queryFn: () => client.policies() });
  const asked = useAsked();
  return (
    <div className="page">
      <h1>{text.policies.title}</h1>
      <p className="dim">{text.policies.hint}</p>
      {list.isPending ? <Skeleton /> : list.isError ? <Failed error={list.error} again={() => void list.refetch()} /> : null}
      {list.isSuccess && list.data.items.length === 0 ? <Empty title={text.policies.empty} /> : null}
      <ul className="rows">
        {(list.data?.items ?? []).map((policy) => (
          <PolicyRow key={policy.name} policy={policy} asked={asked} />
        ))}
      </ul>
    </div>
  );
}

type Asked = ReadonlyMap<string, { waiting: number; decided: readonly InboxPause[] }>;

const keyOf = (policy: unknown, rule: unknown): string => `${String(policy)} ${String(rule)}`;

/** What each rule has asked of people: what waits now, and the newest decisions. */
function useAsked(): Asked {
  const open = useDesk((desk) => desk.pauses);
  const past = useQuery({ queryKey: ["resolved", "gates"], queryFn: () => client.inbox({ state: "resolved", kind: ["gate"], limit: PAST }) });
  return useMemo(() => {
    const found = new Map<string, { waiting: number; decided: InboxPause[] }>();
    const of = (pause: Parameters<typeof riskOf>[0]) => {
      const risk = riskOf(pause) as { policy?: string; rule_id?: string | null };
      const key = keyOf(risk.policy, risk.rule_id);
      const held = found.get(key) ?? { waiting: 0, decided: [] };
      found.set(key, held);
      return held;
    };
    for (const pause of open ?? []) if (pause.kind === "gate") of(pause).waiting += 1;
    for (const pause of past.data?.items ?? []) of(pause).decided.push(pause);
    return found;
  }, [open, past.data]);
}

function PolicyRow({ policy, asked }: { policy: Policy; asked: Asked }) {
  return (
    <li className="row-item policy" data-policy={policy.name}>
      <div className="row-top">
        <h2 className="wrap">{policy.title || policy.name}</h2>
        <span className="chip">
          {policy.name} {text.policies.version(policy.version)}
        </span>
        {policy.blueprint ? <span className="chip">{text.policies.only(policy.blueprint)}</span> : null}
      </div>
      {policy.description ? <p className="wrap">{policy.description}</p> : null}
      <Applied of={policy} />
      <Rules policy={policy} asked={asked} />
      {policy.redact.length > 0 ? <p className="dim small">{text.policies.redact(policy.redact.join(", "))}</p> : null}
      <Versions policy={policy} />
      <Simulation policy={policy} />
    </li>
  );
}

function Applied({ of }: { of: Policy }) {
  return (
    <p className="dim small">
      {text.policies.applied(of.actor, of.channel)} <Ago at={of.applied_at} />
      {of.comment ? `: ${of.comment}` : ""}
    </p>
  );
}

function Rules({ policy, asked }: { policy: Policy; asked?: Asked }) {
  const c = text.policies.columns;
  return (
    <div className="table-scroll" tabIndex={0} role="region" aria-label={text.policies.rulesOf(policy.name, policy.version)}>
      <table className="table">
        <thead>
          <tr>
            <th scope="col">{c.rule}</th>
            <th scope="col">{c.when}</th>
            <th scope="col">{c.then}</th>
            {asked ? <th scope="col">{c.asked}</th> : null}
          </tr>
        </thead>
        <tbody>
          {(policy.rules as unknown as Rule[]).map((rule) => (
            <tr key={rule.id} data-rule={rule.id}>
              <th scope="row">
                <code>{rule.id}</code>
                {rule.because ? <span className="dim small wrap"> {rule.because}</span> : null}
              </th>
              <td className="wrap">{conditionOf(rule.match ?? {})}</td>
              <td>
                <span className="chip" data-tone={TONE[rule.decide] ?? "calm"}>
                  {text.policies.decide[rule.decide] ?? rule.decide}
                </span>
              </td>
              {asked ? (
                <td>
                  <AskedCell of={asked.get(keyOf(policy.name, rule.id))} />
                </td>
              ) : null}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

const TONE: Record<string, string> = { forbid: "bad", always: "human", uncertain: "warn", never: "good" };

function AskedCell({ of }: { of: { waiting: number; decided: readonly InboxPause[] } | undefined }) {
  if (!of) return <span className="dim">{text.policies.notAsked}</span>;
  const last = of.decided[0];
  return (
    <span className="small">
      {of.waiting > 0 ? <Link href={to(["inbox"], { kind: "gate" })}>{text.policies.waiting(of.waiting)}</Link> : null}
      {of.waiting > 0 && last ? " · " : null}
      {last ? (
        <span>
          {text.policies.decided(of.decided.length)},{" "}
          <Link href={to(["workflows", last.trace_id], { tab: "intervene", pause: last.pause_id })}>
            {text.policies.last} <Ago at={last.closed_at ?? last.at} />
          </Link>
        </span>
      ) : null}
    </span>
  );
}

function Versions({ policy }: { policy: Policy }) {
  const [open, setOpen] = useState(false);
  const all = useQuery({ queryKey: ["policy", policy.name, policy.version], queryFn: () => client.policy(policy.name), enabled: open });
  return (
    <details onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>{text.policies.versions}</summary>
      {all.isPending && open ? <Skeleton lines={2} /> : null}
      {all.isError ? <Failed error={all.error} again={() => void all.refetch()} /> : null}
      <ol className="rows" aria-label={text.policies.versions}>
        {(all.data?.items ?? []).map((each) => (
          <li key={each.version} data-version={each.version}>
            <h3>{text.policies.version(each.version)}</h3>
            <Applied of={each} />
            <Rules policy={each} />
          </li>
        ))}
      </ol>
    </details>
  );
}

/** What other rules would have asked of people, over the decisions of the past. Changes nothing. */
function Simulation({ policy }: { policy: Policy }) {
  const id = useId();
  const next = { name: policy.name, version: policy.version + 1, blueprint: policy.blueprint, rules: policy.rules };
  const [typed, setTyped] = useState(() => JSON.stringify(next, null, 2));
  const [seen, setSeen] = useState<PolicySimulation | null>(null);
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  const ask = async () => {
    setProblem("");
    setSeen(null);
    let candidate: Record<string, Json>;
    try {
      candidate = JSON.parse(typed) as Record<string, Json>;
    } catch (error) {
      setProblem(text.policies.notJson((error as SyntaxError).message));
      return;
    }
    setBusy(true);
    try {
      setSeen(await client.simulatePolicy(candidate));
    } catch (error) {
      setProblem(error instanceof Problem ? [error.detail, ...error.errors.map((each) => `${each.pointer}: ${each.message}`)].join(" ") : String(error));
    }
    setBusy(false);
  };
  return (
    <details>
      <summary>{text.policies.simulate}</summary>
      <label className="field" htmlFor={id}>
        {text.policies.candidate}
      </label>
      <textarea id={id} className="mono" rows={10} spellCheck={false} value={typed} aria-describedby={`${id}-h`} onChange={(event) => setTyped(event.target.value)} />
      <p id={`${id}-h`} className="dim small">
        {text.policies.candidateHint}
      </p>
      <button type="button" className="button" disabled={busy} onClick={() => void ask()}>
        {text.policies.ask}
      </button>
      {problem ? (
        <p className="notice wrap" data-tone="bad" role="alert">
          {problem}
        </p>
      ) : null}
      {seen ? <Outcome of={seen} /> : null}
    </details>
  );
}

function Outcome({ of }: { of: PolicySimulation }) {
  const counts = of.interruptions as { before?: number; after?: number };
  const s = text.policies.outcome;
  return (
    <div className="notice" role="status" data-testid="simulated">
      <p>
        <strong>{s.asked(of.decisions, counts.before ?? 0, counts.after ?? 0)}</strong>
      </p>
      {of.slipped.length > 0 ? <p>{s.slipped(of.slipped.length)}</p> : null}
      {of.unedited.length > 0 ? <p>{s.unedited(of.unedited.length)}</p> : null}
      {of.forbidden.length > 0 ? <p>{s.forbidden(of.forbidden.length)}</p> : null}
      <p className="dim small">{text.policies.applyHint}</p>
    </div>
  );
}

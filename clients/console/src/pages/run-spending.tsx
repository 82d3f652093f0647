/** What a workflow has spent on models, and how much of its budget that is. */

import type { Spending as Amount, WorkflowState } from "@handrail/client";
import { useQuery } from "@tanstack/react-query";
import { client } from "../live/client.js";
import { hasEnded } from "../model/status.js";
import { text } from "../text.js";

/** Asked again only when an attempt has told of more, or a pause came or went: a person may have raised the budget. */
export function Spending({ state }: { state: WorkflowState }) {
  const told = JSON.stringify([state.nodes.map((node) => node.usage ?? 0), state.pauses.map((pause) => pause.pause_id)]);
  const known = state.nodes.some((node) => node.usage);
  const asked = useQuery({
    queryKey: ["spending", state.trace_id, told],
    queryFn: () => client.explain(state.trace_id),
    enabled: known && !hasEnded(state.status),
    staleTime: Number.POSITIVE_INFINITY,
    placeholderData: (before) => before,
  });
  if (!known || hasEnded(state.status)) return null;
  return (
    <>
      {Object.entries(asked.data?.spending ?? {}).map(([name, amount]) => (
        <Part key={name} name={name} of={amount} />
      ))}
    </>
  );
}

function Part({ name, of: { spent, limit } }: { name: string; of: Amount }) {
  const said = text.run.spending[name] ?? ((n: string) => `${n} ${name}`);
  const number = (value: number) => value.toLocaleString("en", { maximumFractionDigits: 4 });
  if (limit === null) return <span data-spending={name}>{text.run.spent(said(number(spent)))}</span>;
  return (
    <span className={spent >= limit ? "spending warn-text" : "spending"} data-spending={name}>
      {text.run.spentOf(number(spent), said(number(limit)))} <meter min={0} max={limit || 1} high={limit * 0.8} optimum={0} value={spent} aria-label={text.run.budget} />
    </span>
  );
}

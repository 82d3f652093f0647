/** Nothing to do: said plainly, with what one may want next. */

import { useQuery } from "@tanstack/react-query";
import { CircleCheckBig } from "lucide-react";
import { labelOf } from "../intervene/closed.js";
import { client } from "../live/client.js";
import { useNow } from "../live/hooks.js";
import { curl } from "../model/curl.js";
import { go, to } from "../model/router.js";
import { relative } from "../model/time.js";
import { text } from "../text.js";
import { CopyButton, Empty } from "../ui/parts.js";
import { toast } from "../ui/toasts.js";

const DEMOS = [
  { label: text.inbox.demoRuns, input: { employee: "Ada", sku: "MBP-16" } },
  { label: text.inbox.demoPauses, input: { employee: "Grace", sku: "MBP-OUT-OF-STOCK" } },
  { label: text.inbox.demoUndo, input: { employee: "Edsger", sku: "MBP-OUT-OF-STOCK", fail_compensation: "email" } },
];
const BLUEPRINT = "employee-onboarding";

export function InboxEmpty({ mine }: { mine: boolean }) {
  const last = useQuery({ queryKey: ["resolved", "last"], queryFn: () => client.inbox({ state: "resolved", limit: 1 }) });
  const blueprints = useQuery({ queryKey: ["blueprints"], queryFn: () => client.blueprints(), staleTime: 60_000 });
  const now = useNow(1000);
  const pause = last.data?.items[0];
  const demo = blueprints.data?.items.some((each) => each.name === BLUEPRINT);
  if (mine) return <Empty title={text.inbox.emptyMine} />;
  const decision = pause?.decision;
  return (
    <Empty title={text.inbox.empty} icon={<CircleCheckBig size={40} aria-hidden />}>
      <p>{text.inbox.emptyHint}</p>
      {pause && decision ? (
        <p className="dim">{text.inbox.lastDecision(decision.action_id ? labelOf(pause, decision.action_id) : decision.outcome, decision.actor, relative(decision.decided_at, now))}</p>
      ) : null}
      {demo ? (
        <section className="demo">
          <h3>{text.inbox.demo}</h3>
          <p>{text.inbox.demoHint}</p>
          <p className="row">
            {DEMOS.map((each) => (
              <button key={each.label} type="button" className="button" onClick={() => void start(each.input)}>
                {each.label}
              </button>
            ))}
          </p>
          <h4>{text.inbox.curl}</h4>
          <div className="code-line">
            <pre tabIndex={0}>{command()}</pre>
            <CopyButton value={command()} small />
          </div>
        </section>
      ) : null}
    </Empty>
  );
}

const command = (): string => curl(window.location.origin, "/workflows", { blueprint: BLUEPRINT, input: DEMOS[1]?.input });

async function start(input: Record<string, unknown>): Promise<void> {
  try {
    const { trace_id } = await client.start({ blueprint: BLUEPRINT, input });
    go(to(["workflows", trace_id]));
  } catch (error) {
    toast(text.common.failed, error instanceof Error ? error.message : String(error), true);
  }
}

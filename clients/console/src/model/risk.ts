import type { Pause } from "@handrail/client";

/** What a gate found, as far as it says. */
export interface RiskFacts {
  rule_id?: string | null;
  policy_version?: number;
  score?: number | null;
  decide?: string;
}

/** The risk part of a pause; empty where no gate opened it. */
export const riskOf = (pause: Pause): RiskFacts => (pause.risk as RiskFacts | null | undefined) ?? {};
/** Above what a rule that always asks has by itself: there a reason must be given. */
const HIGH = 0.9;
export const isHighRisk = (pause: Pause): boolean => (riskOf(pause).score ?? 0) > HIGH;

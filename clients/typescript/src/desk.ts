/** What operators and agents outside do, beside deciding: escalations, set-aside records, policies, the decision dataset. */

import { type Calls, type PerCall, path, type Query } from "./calls.js";
import { Problem } from "./errors.js";
import type {
  DeadLetter,
  EscalationOpened,
  Feedback,
  Json,
  LedgerEntry,
  Page,
  Policy,
  PolicySimulation,
  PolicySuggestion,
  QuarantinedRecord,
} from "./types.js";

export interface EscalationRequest {
  /** What the operator reads first. */
  reason: string;
  summary?: string;
  transcript?: { role: string; text: string; at?: string }[];
  /** Shown as the context of the pause. */
  metadata?: Record<string, Json>;
  /** What the end user is told. */
  handover_message?: string;
  /** Hears what people say and decide (https, a public host). */
  callback_url?: string;
}

export interface FeedbackFilter {
  /** RFC 3339. */
  since?: string;
  blueprint?: string;
  kind?: readonly string[];
  outcome?: readonly string[];
}

export class Desk {
  readonly #calls: Calls;

  constructor(calls: Calls) {
    this.#calls = calls;
  }

  /** Opens an escalation from outside of any workflow. Both ids are final; the inbox shows it a moment later. */
  escalate(request: EscalationRequest, per?: PerCall): Promise<EscalationOpened> {
    return this.#calls.post("/escalations", request, per);
  }

  /** One dead letter. */
  getDeadLetter(id: string, per?: PerCall): Promise<DeadLetter> {
    return this.#calls.get(path("dead-letters", id), {}, per);
  }

  /** One record that was set aside. */
  getQuarantined(id: number, per?: PerCall): Promise<QuarantinedRecord> {
    return this.#calls.get(path("quarantine", String(id)), {}, per);
  }

  /** The policies in force, by name. */
  policies(per?: PerCall): Promise<Page<Policy>> {
    return this.#calls.get("/policies", {}, per);
  }

  /** Every version of a policy, newest first. */
  policy(name: string, per?: PerCall): Promise<Page<Policy>> {
    return this.#calls.get(path("policies", name), {}, per);
  }

  /** Puts the next version of a policy in force; its number may be left out. Throws Problem `policy-version`. */
  applyPolicy(policy: Record<string, Json>, options: { comment?: string } & PerCall = {}): Promise<Policy> {
    const { comment, ...per } = options;
    return this.#calls.post("/policies", { policy, comment }, per);
  }

  /** What this policy would have asked of people, over past decisions. Changes nothing. */
  simulatePolicy(policy: Record<string, Json>, options: { since?: string } & PerCall = {}): Promise<PolicySimulation> {
    const { since, ...per } = options;
    return this.#calls.post("/policies/simulate", { policy, since }, per);
  }

  /** Exemptions that at least so many unanimous approvals speak for (20), each for so many days (30). */
  policySuggestions(options: { least?: number; days?: number; since?: string } & PerCall = {}): Promise<Page<PolicySuggestion>> {
    const { least = 20, days = 30, since, ...per } = options;
    return this.#calls.get("/policies/suggestions", { min: least, days, since }, per);
  }

  /** The decision dataset, oldest first. Not repeated when it breaks midway: throws Unreachable. */
  feedback(filter: FeedbackFilter & PerCall = {}): AsyncGenerator<Feedback, void, undefined> {
    return this.#lines<Feedback>(filter);
  }

  /** What people decided, as examples to learn from; what nobody decided is none. */
  training(
    format: "sft" | "preference" | "eval",
    filter: FeedbackFilter & PerCall = {},
  ): AsyncGenerator<Record<string, Json>, void, undefined> {
    return this.#lines<Record<string, Json>>(filter, { format });
  }

  /** What the simulators really did for a workflow, oldest first; empty where none run. */
  async ledger(traceId: string, per?: PerCall): Promise<LedgerEntry[]> {
    try {
      return await this.#calls.get("/simulators/ledger", { trace_id: traceId }, per);
    } catch (error) {
      if (error instanceof Problem && error.status === 404) return [];
      throw error;
    }
  }

  #lines<T>(filter: FeedbackFilter & PerCall, more: Query = {}): AsyncGenerator<T, void, undefined> {
    const { signal, idempotencyKey: _, kind, outcome, ...rest } = filter;
    const query = { ...rest, kind: kind?.join(","), outcome: outcome?.join(","), ...more };
    return this.#calls.lines<T>("/feedback.jsonl", query, { signal });
  }
}

/** The stories that Handrail brings along. Each is one start over the public API. */

import { text } from "../text.js";

export interface Demo {
  key: string;
  label: string;
  hint: string;
  blueprint: string;
  input: Record<string, unknown>;
  /** Ends in somebody's inbox. */
  asks: boolean;
}

const ONBOARDING = "employee-onboarding";

export const DEMOS: readonly Demo[] = [
  {
    key: "stock",
    ...text.demos.stock,
    blueprint: ONBOARDING,
    input: { employee: "Grace", sku: "MBP-OUT-OF-STOCK" },
    asks: true,
  },
  {
    key: "transfer",
    ...text.demos.transfer,
    blueprint: "bank-transfer",
    input: { from: "checking", to: "Alice", amount: 500 },
    asks: true,
  },
  {
    key: "refund",
    ...text.demos.refund,
    blueprint: "refund-support",
    input: { order_id: "12345", message: "I was charged twice, I want a person" },
    asks: true,
  },
  {
    key: "through",
    ...text.demos.through,
    blueprint: ONBOARDING,
    input: { employee: "Ada", sku: "MBP-16" },
    asks: false,
  },
  {
    key: "undo",
    ...text.demos.undo,
    blueprint: ONBOARDING,
    input: { employee: "Edsger", sku: "MBP-OUT-OF-STOCK", fail_compensation: "email" },
    asks: true,
  },
  {
    key: "small",
    ...text.demos.small,
    blueprint: "bank-transfer",
    input: { from: "checking", to: "Alice", amount: 50 },
    asks: false,
  },
];

/** One of each door that leads to a person: a dead letter, a gate, an escalation. */
export const DOORS = DEMOS.slice(0, 3);

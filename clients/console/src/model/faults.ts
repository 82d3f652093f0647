/** Plans of the simulator's steps in which something goes wrong. */

export interface Fault {
  /** An outcome of the action `script`. */
  outcome: string;
  /** How many attempts meet it; 0 means all. */
  times: number;
  effect: string;
  undoFails: boolean;
}

/** Short limits, so that a person who waits for a lost answer waits seconds. */
const LIMITS = { start_to_close_s: 2, lease_s: 1 };

export function planOf({ outcome, times, effect, undoFails }: Fault): Record<string, unknown> {
  const outcomes = times === 0 ? [outcome] : [...Array.from({ length: times }, () => outcome), "ok"];
  const step = { agent: "simulator", action: "script" };
  return {
    nodes: [
      { id: "before", ...step, inputs: { duration_ms: 300 } },
      {
        id: "faulty",
        ...step,
        depends_on: ["before"],
        inputs: { outcomes, duration_ms: 300, ...(undoFails ? { undo: ["error:UNDO_REFUSED"] } : {}) },
        effect_class: effect,
        timeouts: LIMITS,
        retry: { max_attempts: 3, initial_delay_s: 0.5 },
      },
      { id: "after", ...step, depends_on: ["faulty"], inputs: { duration_ms: 300 } },
    ],
  };
}

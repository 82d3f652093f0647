/** What an agent wants to do, before a person has said yes. */

import type { Pause } from "@handrail/client";

export interface Proposed {
  action?: string;
  args?: Record<string, unknown>;
  summary?: string;
  diff?: { before?: unknown; after?: unknown } | null;
  reversible?: boolean;
  affected?: number;
  digest?: string;
}

export const proposedOf = (pause: Pause): Proposed => (pause.proposed_action as Proposed | null | undefined) ?? {};
export const proposedArgs = (pause: Pause): Record<string, unknown> | undefined => proposedOf(pause).args;

/** Whether this is somebody's desk (`handrail up`), and what may be tried there. The server says so; asked once a page. */

import { Problem } from "@handrail/client";
import { useQuery } from "@tanstack/react-query";
import type { Demo } from "../model/demos.js";
import { go, to } from "../model/router.js";
import { text } from "../text.js";
import { toast } from "../ui/toasts.js";
import { client } from "./client.js";

/** Undefined until the server has answered. */
export function useDev(): boolean | undefined {
  const health = useQuery({ queryKey: ["health"], queryFn: () => client.health(), staleTime: Number.POSITIVE_INFINITY, gcTime: Number.POSITIVE_INFINITY });
  return health.isPending ? undefined : health.data?.dev === true;
}

/** Starts a workflow and goes there; what is refused is told. */
export async function started(request: { blueprint?: string; input?: Record<string, unknown>; plan?: unknown; intent?: string }): Promise<void> {
  try {
    const { trace_id } = await client.start(request as never);
    go(to(["workflows", trace_id]));
  } catch (error) {
    toast(text.common.failed, error instanceof Problem ? error.detail : String(error), true);
  }
}

export const startDemo = (demo: Demo): Promise<void> => started({ blueprint: demo.blueprint, input: demo.input });

/** What a step is given: the blueprint's mapping, filled from the workflow's input and from outputs that are there. */

import type { Blueprint, WorkflowState } from "@handrail/client";

type Fields = Record<string, unknown>;

/** Null where the blueprint does not know the step. A reference whose value is not there yet is shown as `‹its name›`. */
export function inputsOf(blueprint: Blueprint, nodeId: string, state: WorkflowState): Fields | null {
  const node = blueprint.nodes.find((each) => each.id === nodeId);
  if (!node || typeof node.inputs !== "object" || node.inputs === null) return null;
  return filled(node.inputs, state) as Fields;
}

function filled(value: unknown, state: WorkflowState): unknown {
  if (Array.isArray(value)) return value.map((each) => filled(each, state));
  if (typeof value !== "object" || value === null) return value;
  const fields = value as Fields;
  if (typeof fields.$from === "string") {
    const found = looked(fields.$from, state);
    if (found !== undefined) return found;
    return "default" in fields ? fields.default : `‹${fields.$from}›`;
  }
  return Object.fromEntries(Object.entries(fields).map(([name, each]) => [name, filled(each, state)]));
}

function looked(reference: string, state: WorkflowState): unknown {
  const [root, ...rest] = reference.split(".");
  if (root === "input") return walked(state.input, rest);
  if (root !== "nodes") return undefined;
  const node = state.nodes.find((each) => each.id === rest[0]);
  if (rest[1] !== "output" || node?.output === null || node?.output === undefined) return undefined;
  return walked(node.output, rest.slice(2));
}

function walked(value: unknown, path: readonly string[]): unknown {
  let at = value;
  for (const part of path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, part)) return undefined;
    at = (at as Fields)[part];
  }
  return at;
}

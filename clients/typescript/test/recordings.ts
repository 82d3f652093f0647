import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { WorkflowEvent } from "../src/index.js";

const FOLDER = join(import.meta.dirname, "../../../tests/contracts/recordings");

export const NAMES = readdirSync(FOLDER)
  .filter((name) => name.endsWith(".jsonl"))
  .map((name) => name.replace(/\.jsonl$/, ""))
  .sort();

export function events(name: string): WorkflowEvent[] {
  const text = readFileSync(join(FOLDER, `${name}.jsonl`), "utf8");
  return text
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as WorkflowEvent);
}

export function expectedView(name: string): unknown {
  return JSON.parse(readFileSync(join(FOLDER, `${name}.view.json`), "utf8"));
}

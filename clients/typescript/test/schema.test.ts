import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

test("the types are those of schemas.json", () => {
  const source = readFileSync(new URL("../schemas.json", import.meta.url));
  const types = readFileSync(new URL("../src/schema.ts", import.meta.url), "utf8");
  const digest = createHash("sha256").update(source).digest("hex");
  expect(types.split("\n")[0], "run `npm run generate --workspace typescript` in clients/").toContain(digest);
});

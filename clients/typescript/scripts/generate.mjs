// Writes src/schema.ts from schemas.json, which scripts/schemas.py prints. Both are committed; a test holds them together.
import { createHash } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import openapiTS, { astToString } from "openapi-typescript";

const source = await readFile(new URL("../schemas.json", import.meta.url));
const digest = createHash("sha256").update(source).digest("hex");
const types = astToString(await openapiTS(JSON.parse(source.toString()), { defaultNonNullable: false, alphabetize: true }));
const header = `// Written by scripts/generate.mjs from schemas.json, sha256 ${digest}. Do not edit.\n\n`;
await writeFile(new URL("../src/schema.ts", import.meta.url), header + types);

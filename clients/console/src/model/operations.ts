/** The orders of an API, read out of its OpenAPI document, and a body to begin with. */

type Dict = Record<string, unknown>;

export interface Operation {
  id: string;
  path: string;
  summary: string;
  /** Names in the path, in their order. */
  names: readonly string[];
  /** Names that a body may have; those that it must have first. */
  fields: readonly string[];
  example: unknown;
}

const dict = (value: unknown): Dict => (typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Dict) : {});

/** Every POST outside of `/dev`, in the document's order. */
export function operationsOf(document: unknown): Operation[] {
  const found: Operation[] = [];
  const schemas = dict(dict(dict(document).components).schemas);
  for (const [path, methods] of Object.entries(dict(dict(document).paths))) {
    const post = dict(dict(methods).post);
    if (Object.keys(post).length === 0 || path.startsWith("/dev/")) continue;
    const content = dict(dict(dict(post.requestBody).content)["application/json"]);
    const schema = resolved(dict(content.schema), schemas);
    const required = Array.isArray(schema.required) ? schema.required.map(String) : [];
    const all = Object.keys(dict(schema.properties));
    found.push({
      id: `POST ${path}`,
      path,
      summary: typeof post.summary === "string" ? post.summary : "",
      names: [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1] as string),
      fields: [...required, ...all.filter((name) => !required.includes(name))],
      example: path === "/workflows" ? START : Object.fromEntries(required.map((name) => [name, sample(dict(dict(schema.properties)[name]), schemas, 0)])),
    });
  }
  return found;
}

const START = { blueprint: "employee-onboarding", input: { employee: "Ada", sku: "MBP-OUT-OF-STOCK" } };

function resolved(schema: Dict, schemas: Dict): Dict {
  const name = typeof schema.$ref === "string" ? schema.$ref.split("/").at(-1) : undefined;
  return name === undefined ? schema : dict(schemas[name]);
}

/** The least that fits: what must be there, empty. */
function sample(given: Dict, schemas: Dict, depth: number): unknown {
  const schema = resolved(given, schemas);
  if ("default" in schema) return schema.default;
  if (Array.isArray(schema.enum)) return schema.enum[0];
  if ("const" in schema) return schema.const;
  if (schema.type === "array") return [];
  if (schema.type === "integer" || schema.type === "number") return typeof schema.minimum === "number" ? schema.minimum : 1;
  if (schema.type === "boolean") return false;
  if (schema.type === "object" || schema.properties) {
    const required = depth < 3 && Array.isArray(schema.required) ? schema.required.map(String) : [];
    return Object.fromEntries(required.map((name) => [name, sample(dict(dict(schema.properties)[name]), schemas, depth + 1)]));
  }
  return "";
}

/** The path with its names filled in, each escaped. */
export function filled(path: string, values: Record<string, string>): string {
  return path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(values[name]?.trim() ?? ""));
}

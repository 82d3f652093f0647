/**
 * Forms out of what a button or a blueprint asks for: a shorthand (`url`, `text` …) or a JSON Schema.
 *
 * Flat schemas, and objects in objects, become fields; what cannot be told as a field becomes a box for JSON. The
 * server is the judge of what is valid: this checks only what saves a person a round trip.
 */

export type Kind = "text" | "long" | "url" | "email" | "number" | "integer" | "boolean" | "date" | "datetime" | "choice" | "choices" | "json";

export interface Field {
  /** RFC 6901; "" for the bare value of a shorthand. */
  pointer: string;
  path: readonly string[];
  label: string;
  help: string;
  kind: Kind;
  required: boolean;
  nullable: boolean;
  options: readonly unknown[];
  initial: unknown;
  min?: number | undefined;
  max?: number | undefined;
  minLength?: number | undefined;
  maxLength?: number | undefined;
  pattern?: string | undefined;
}

export interface Form {
  /** False: the value is that of the one field, not an object. */
  object: boolean;
  fields: readonly Field[];
  /** The name of a shorthand that this console does not know. */
  unknown: string | null;
}

type Schema = Record<string, unknown>;

const SHORT: Record<string, Kind> = {
  url: "url",
  email: "email",
  text: "long",
  number: "number",
  integer: "integer",
  boolean: "boolean",
  date: "date",
  json: "json",
};

/** The form of a schema. `value` fills it in advance (arguments to be edited). */
export function formOf(schema: string | Schema | null | undefined, value?: unknown): Form {
  if (typeof schema === "string") return shorthand(schema, value);
  if (isObject(schema) && typeIs(schema, "object") && isObject(schema.properties)) {
    const fields = properties(schema, [], value);
    return { object: true, fields, unknown: null };
  }
  if (isObject(schema) && !typeIs(schema, "object") && schema.type !== undefined) {
    return { object: false, fields: [field(schema, [], "", true, value)], unknown: null };
  }
  return { object: false, fields: [bare("json", value)], unknown: null };
}

function shorthand(name: string, value: unknown): Form {
  const kind = SHORT[name];
  return { object: false, fields: [bare(kind ?? "long", value)], unknown: kind === undefined ? name : null };
}

function bare(kind: Kind, value: unknown): Field {
  return { pointer: "", path: [], label: "", help: "", kind, required: true, nullable: false, options: [], initial: value };
}

function properties(schema: Schema, path: readonly string[], value: unknown): Field[] {
  const required = Array.isArray(schema.required) ? schema.required : [];
  const held = isObject(value) ? value : {};
  const found: Field[] = [];
  for (const [name, each] of Object.entries(schema.properties as Schema)) {
    const below = isObject(each) ? each : {};
    const given = Object.hasOwn(held, name) ? held[name] : below.default;
    if (typeIs(below, "object") && isObject(below.properties) && path.length < 3) {
      found.push(...properties(below, [...path, name], given));
    } else {
      found.push(field(below, [...path, name], name, required.includes(name), given));
    }
  }
  return found;
}

function field(schema: Schema, path: readonly string[], name: string, required: boolean, initial: unknown): Field {
  const options = optionsOf(schema);
  const types = typesOf(schema);
  const text = (key: string): string => (typeof schema[key] === "string" ? (schema[key] as string) : "");
  const number = (key: string): number | undefined => (typeof schema[key] === "number" ? (schema[key] as number) : undefined);
  return {
    pointer: path.map((part) => `/${part.replaceAll("~", "~0").replaceAll("/", "~1")}`).join(""),
    path,
    label: text("title") || name,
    help: text("description"),
    kind: kindOf(schema, types, options),
    required,
    nullable: types.includes("null") || options.includes(null),
    options: options.filter((each) => each !== null),
    initial,
    min: number("minimum"),
    max: number("maximum"),
    minLength: number("minLength"),
    maxLength: number("maxLength"),
    pattern: text("pattern") || undefined,
  };
}

function kindOf(schema: Schema, types: readonly string[], options: readonly unknown[]): Kind {
  const [type, ...others] = types.filter((each) => each !== "null");
  if (options.some((each) => each !== null)) return "choice";
  if (type === "array" && isObject(schema.items) && optionsOf(schema.items).length > 0) return "choices";
  if (others.length > 0 && !(type === "integer" && others[0] === "number")) return "json";
  if (type === "boolean") return "boolean";
  if (type === "integer" && others.length === 0) return "integer";
  if (type === "number" || type === "integer") return "number";
  if (type !== "string") return "json";
  const format = String(schema.format ?? "");
  if (format === "uri" || format === "url" || format === "iri") return "url";
  if (format === "email") return "email";
  if (format === "date") return "date";
  if (format === "date-time") return "datetime";
  const most = typeof schema.maxLength === "number" ? schema.maxLength : 0;
  return most > 500 ? "long" : "text";
}

function optionsOf(schema: Schema): readonly unknown[] {
  if (Array.isArray(schema.enum)) return schema.enum;
  if ("const" in schema) return [schema.const];
  const branches = schema.oneOf ?? schema.anyOf;
  if (Array.isArray(branches) && branches.length > 0 && branches.every((each) => isObject(each) && "const" in each)) {
    return branches.map((each) => (each as Schema).const);
  }
  if (isObject(schema.items) && schema.type === "array") return [];
  return [];
}

function typesOf(schema: Schema): string[] {
  if (typeof schema.type === "string") return [schema.type];
  if (Array.isArray(schema.type)) return schema.type.map(String);
  const branches = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(branches)) return [...new Set(branches.flatMap((each) => (isObject(each) ? typesOf(each) : [])))];
  return [];
}

const typeIs = (schema: Schema, type: string): boolean => schema.type === type || (type === "object" && schema.type === undefined && isObject(schema.properties));

export function isObject(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** What stands in a field, as text or (for `choices`) a list of indexes. */
export type Raw = Record<string, string | boolean>;

/** What the fields show at first. */
export function rawOf(form: Form): Raw {
  return Object.fromEntries(form.fields.map((each) => [each.pointer, shownAs(each)]));
}

function shownAs(each: Field): string | boolean {
  const { initial, kind } = each;
  if (kind === "boolean" && !each.nullable) return initial === true;
  if (initial === undefined || initial === null) return "";
  if (kind === "choice") return String(each.options.findIndex((option) => same(option, initial)));
  if (kind === "json" || kind === "choices") return JSON.stringify(initial, null, 2);
  return typeof initial === "string" ? initial : JSON.stringify(initial);
}

export interface Read {
  value: unknown;
  /** Pointer -> what is wrong. */
  errors: Record<string, string>;
}

/** The value that the fields mean, in its own types, and what cannot be right. */
export function read(form: Form, raw: Raw): Read {
  const errors: Record<string, string> = {};
  const value: Schema = {};
  let only: unknown;
  for (const each of form.fields) {
    const found = readOne(each, raw[each.pointer] ?? "");
    if ("error" in found) errors[each.pointer] = found.error;
    else if (form.object && found.value !== undefined) put(value, each.path, found.value);
    else only = found.value;
  }
  return { value: form.object ? value : only, errors };
}

type One = { value: unknown } | { error: string };

function readOne(each: Field, raw: string | boolean): One {
  if (typeof raw === "boolean") return { value: raw };
  const text = each.kind === "text" || each.kind === "long" ? raw : raw.trim();
  if (text === "") return empty(each);
  switch (each.kind) {
    case "number":
    case "integer":
      return numeric(each, text);
    case "boolean":
      return { value: text === "true" };
    case "choice":
      return { value: each.options[Number(text)] };
    case "url":
      return /^[a-z][a-z0-9+.-]*:\S+$/i.test(text) ? { value: text } : { error: `Expected an address such as https://vendor.example/item, but found "${text.slice(0, 80)}".` };
    case "email":
      return /^\S+@\S+$/.test(text) ? { value: text } : { error: `Expected an e-mail address, but found "${text.slice(0, 80)}".` };
    case "json":
    case "choices":
      return json(text);
    case "datetime":
      return { value: /^\d{4}-\d\d-\d\dT\d\d:\d\d$/.test(text) ? `${text}:00Z` : text };
    default:
      return sized(each, text);
  }
}

function empty(each: Field): One {
  if (each.nullable) return { value: null };
  return each.required ? { error: "Expected a value, but it is empty." } : { value: undefined };
}

function numeric(each: Field, text: string): One {
  const value = Number(text);
  if (!Number.isFinite(value)) return { error: `Expected a number, but found "${text.slice(0, 80)}".` };
  if (each.kind === "integer" && !Number.isInteger(value)) return { error: `Expected a whole number, but found ${text.slice(0, 80)}.` };
  if (each.min !== undefined && value < each.min) return { error: `Expected at least ${each.min}, but found ${text.slice(0, 80)}.` };
  if (each.max !== undefined && value > each.max) return { error: `Expected at most ${each.max}, but found ${text.slice(0, 80)}.` };
  return { value };
}

function sized(each: Field, text: string): One {
  if (each.minLength !== undefined && [...text].length < each.minLength) return { error: `Expected at least ${each.minLength} characters, but found ${[...text].length}.` };
  if (each.maxLength !== undefined && [...text].length > each.maxLength) return { error: `Expected at most ${each.maxLength} characters, but found ${[...text].length}.` };
  return { value: text };
}

function json(text: string): One {
  try {
    return { value: JSON.parse(text) as unknown };
  } catch (error) {
    return { error: `Expected JSON, but it cannot be read: ${(error as Error).message.slice(0, 120)}` };
  }
}

function put(target: Schema, path: readonly string[], value: unknown): void {
  let at = target;
  for (const part of path.slice(0, -1)) {
    if (!Object.hasOwn(at, part) || !isObject(at[part])) define(at, part, {});
    at = at[part] as Schema;
  }
  define(at, path.at(-1) as string, value);
}

/** Also for a property that is called `__proto__`. */
function define(target: Schema, name: string, value: unknown): void {
  Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true });
}

const same = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

/** Server problems by field: `/input/amount` and `/amount` both mean the field `amount`. */
export function placed(form: Form, errors: readonly { pointer: string; message: string }[]): { fields: Record<string, string>; rest: string[] } {
  const fields: Record<string, string> = {};
  const rest: string[] = [];
  for (const { pointer, message } of errors) {
    const short = pointer.replace(/^\/input(?=\/|$)/, "");
    const found = form.fields.find((each) => each.pointer === short || each.pointer === pointer) ?? (form.fields.length === 1 && !form.object ? form.fields[0] : undefined);
    if (found) fields[found.pointer] = fields[found.pointer] ? `${fields[found.pointer]} ${message}` : message;
    else rest.push(`${pointer}: ${message}`);
  }
  return { fields, rest };
}

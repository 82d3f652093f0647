import { describe, expect, test } from "vitest";
import { formOf, placed, rawOf, read } from "../src/model/forms.js";

const one = (schema: Parameters<typeof formOf>[0], typed: string | boolean) => read(formOf(schema), { "": typed });

describe("shorthands take a bare value in its own type", () => {
  test.each([
    ["url", "https://vendor.example/x", "https://vendor.example/x"],
    ["email", "ada@company.example", "ada@company.example"],
    ["text", " as it is ", " as it is "],
    ["number", "2.50", 2.5],
    ["integer", "-3", -3],
    ["boolean", true, true],
    ["boolean", false, false],
    ["date", "2026-11-20", "2026-11-20"],
    ["json", '{"a": [1, null]}', { a: [1, null] }],
  ])("%s", (schema, typed, value) => {
    expect(one(schema, typed)).toEqual({ value, errors: {} });
  });

  test.each([
    ["url", "vendor"],
    ["url", ""],
    ["email", "ada"],
    ["number", "12,5"],
    ["integer", "1.5"],
    ["json", "{"],
  ])("%s refuses %j", (schema, typed) => {
    expect(one(schema, typed).errors[""]).toMatch(/^Expected /);
  });

  test("one that this console does not know becomes text and says so", () => {
    expect(formOf("colour")).toMatchObject({ unknown: "colour", object: false });
    expect(one("colour", "red")).toEqual({ value: "red", errors: {} });
  });
});

const TRANSFER = {
  type: "object",
  additionalProperties: false,
  required: ["to", "amount"],
  properties: {
    to: { type: "string", title: "To", minLength: 1, maxLength: 20 },
    amount: { anyOf: [{ type: "integer" }, { type: "number" }], title: "Amount", minimum: 0 },
    note: { type: ["string", "null"] },
    speed: { enum: ["slow", "fast"] },
    address: { type: "object", properties: { city: { type: "string" } } },
    tags: { type: "array", items: { type: "string" } },
  },
};

test("a schema becomes fields that keep the types of what they were given", () => {
  const args = { to: "Alice", amount: 500, note: null, speed: "fast", address: { city: "Rome" }, tags: ["a"] };
  const form = formOf(TRANSFER, args);
  expect(form.fields.map((each) => [each.pointer, each.kind, each.required])).toEqual([
    ["/to", "text", true],
    ["/amount", "number", true],
    ["/note", "text", false],
    ["/speed", "choice", false],
    ["/address/city", "text", false],
    ["/tags", "json", false],
  ]);
  expect(read(form, rawOf(form))).toEqual({ value: args, errors: {} });
});

test("what is left empty is left out, and what is missing is told at its field", () => {
  const form = formOf(TRANSFER);
  expect(read(form, rawOf(form)).errors).toEqual({ "/to": expect.stringContaining("empty"), "/amount": expect.stringContaining("empty") });
  const filled = { ...rawOf(form), "/to": "Bob", "/amount": "12" };
  expect(read(form, filled)).toEqual({ value: { to: "Bob", amount: 12, note: null }, errors: {} });
  expect(read(form, { ...filled, "/amount": "-1" }).errors["/amount"]).toContain("at least 0");
});

test("a property named __proto__ is a property", () => {
  const properties = JSON.parse('{"__proto__": {"type": "string"}}');
  const form = formOf({ type: "object", properties });
  const { value } = read(form, { "/__proto__": "x" });
  expect(Object.getOwnPropertyNames(value)).toEqual(["__proto__"]);
  expect(({} as Record<string, unknown>).x).toBeUndefined();
});

test("a schema that cannot be told as fields is a box for JSON", () => {
  expect(formOf({ type: "array", items: {} }).fields[0]?.kind).toBe("json");
  expect(formOf({}).fields[0]?.kind).toBe("json");
  expect(formOf(null).fields[0]?.kind).toBe("json");
});

test("problems of the server stand at the field they mean", () => {
  const form = formOf(TRANSFER);
  const told = placed(form, [
    { pointer: "/input/amount", message: "too much" },
    { pointer: "/to", message: "unknown" },
    { pointer: "/elsewhere", message: "what?" },
  ]);
  expect(told).toEqual({ fields: { "/amount": "too much", "/to": "unknown" }, rest: ["/elsewhere: what?"] });
  expect(placed(formOf("url"), [{ pointer: "/input", message: "no address" }]).fields).toEqual({ "": "no address" });
});

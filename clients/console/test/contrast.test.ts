import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const css = readFileSync(new URL("../src/styles/base.css", import.meta.url), "utf8");
const NAMES = ["pending", "progress", "complete", "failed", "human", "compensating", "compensated", "skipped", "cancelled", "unknown", "dim", "text", "accent"];

function block(selector: string): Record<string, string> {
  const from = css.indexOf(`${selector} {`);
  const body = css.slice(from, css.indexOf("\n}", from));
  return Object.fromEntries([...body.matchAll(/--([a-z-]+): (#[0-9a-f]{6});/g)].map(([, name, value]) => [name, value]));
}

/** WCAG 2.2, relative luminance. */
function luminance(hex: string): number {
  const [r, g, b] = [1, 3, 5].map((i) => {
    const c = Number.parseInt(hex.slice(i, i + 2), 16) / 255;
    return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

const contrast = (a: string, b: string): number => {
  const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p) as [number, number];
  return (x + 0.05) / (y + 0.05);
};

test.each([":root", ':root[data-theme="dark"]'])("every colour of %s reads on the canvas", (selector) => {
  const tokens = block(selector);
  for (const name of NAMES) {
    expect(contrast(tokens[name] ?? "", tokens.canvas ?? ""), name).toBeGreaterThanOrEqual(4.5);
  }
});

test("the dark of the system and the chosen dark are the same", () => {
  expect(block(':root:not([data-theme="light"])')).toEqual(block(':root[data-theme="dark"]'));
});

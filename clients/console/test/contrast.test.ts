import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const css = readFileSync(new URL("../src/styles/base.css", import.meta.url), "utf8");
const NAMES = ["pending", "progress", "complete", "failed", "human", "compensating", "compensated", "skipped", "cancelled", "unknown", "dim", "text", "accent"];

/** Every token by its colour in one theme. */
function tokens(theme: "light" | "dark"): Record<string, string> {
  const pairs = css.matchAll(/--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\);/g);
  return Object.fromEntries([...pairs].map(([, name, light, dark]) => [name, theme === "light" ? light : dark]));
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

test.each(["light", "dark"] as const)("every colour of the %s theme reads on the canvas", (theme) => {
  const found = tokens(theme);
  for (const name of NAMES) {
    expect(contrast(found[name] ?? "", found.canvas ?? ""), name).toBeGreaterThanOrEqual(4.5);
  }
});

test("every token is said once, for both themes", () => {
  const said = [...css.matchAll(/^ *--([a-z-]+):/gm)].map(([, name]) => name);
  expect(new Set(said).size).toBe(said.length);
  for (const name of NAMES) expect(Object.keys(tokens("dark"))).toContain(name);
});

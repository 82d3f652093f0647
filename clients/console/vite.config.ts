import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** A plain script before everything else: it sets the theme before the first paint, and must not wait for modules. */
const themeFirst: Plugin = {
  name: "theme-first",
  transformIndexHtml: () => [{ tag: "script", attrs: { src: "/console/theme.js" }, injectTo: "head-prepend" }],
};

/** The gateway serves these to whoever takes gzip: a first load of a third of the bytes. */
const compressed: Plugin = {
  name: "compressed",
  apply: "build",
  writeBundle({ dir = "" }) {
    const assets = join(dir, "assets");
    for (const name of readdirSync(assets)) {
      if (/\.(js|css)$/.test(name)) writeFileSync(join(assets, `${name}.gz`), gzipSync(readFileSync(join(assets, name)), { level: 9 }));
    }
  },
};

export default defineConfig({
  plugins: [themeFirst, compressed],
  base: "/console/",
  // The client's sources, not its built files: one build, and what is not used is left out.
  resolve: {
    alias: [
      { find: "@handrail/client/react", replacement: here("../typescript/src/react.ts") },
      { find: "@handrail/client", replacement: here("../typescript/src/index.ts") },
    ],
  },
  esbuild: { jsx: "automatic" },
  build: {
    outDir: process.env.HANDRAIL_CONSOLE_OUT ?? here("../../services/gateway/src/handrail_gateway/console"),
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: 0,
    manifest: true,
    reportCompressedSize: false,
    chunkSizeWarningLimit: 800,
    rollupOptions: {
      onwarn(warning, warn) {
        if (warning.code !== "MODULE_LEVEL_DIRECTIVE") warn(warning); // "use client" means nothing here
      },
    },
  },
  server: {
    // `npm run dev` beside a running `handrail up`.
    proxy: Object.fromEntries(
      ["/workflows", "/inbox", "/pauses", "/dead-letters", "/quarantine", "/blueprints", "/agents", "/events", "/readyz"].map(
        (path) => [path, process.env.HANDRAIL_URL ?? "http://127.0.0.1:8080"],
      ),
    ),
  },
});

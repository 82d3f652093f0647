import { defineConfig } from "vitest/config";

/** Against a Handrail that runs: HANDRAIL_URL=http://127.0.0.1:8080 npx vitest run --config vitest.real.config.ts */
export default defineConfig({ test: { include: ["test/**/*.real.ts"], testTimeout: 60_000 } });

import { defineConfig, mergeConfig } from "vitest/config";
import base from "./vite.config.js";

export default mergeConfig(base, defineConfig({ test: { include: ["test/**/*.test.{ts,tsx}"], testTimeout: 20_000 } }));

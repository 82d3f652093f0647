import { QueryClientProvider } from "@tanstack/react-query";
import { createRoot } from "react-dom/client";
import { queries } from "./live/client.js";
import { openDesk } from "./live/desk.js";
// With the page: the loader asks for the style of a part once, also where that went wrong.
import "@xyflow/react/dist/base.css";
import "./styles/base.css";
import "./styles/parts.css";
import "./styles/pages.css";
import { NotLoaded } from "./ui/boundary.js";
import { Shell } from "./ui/shell.js";

openDesk();
// What could not be loaded is told in its place, and is no fault of the console.
const onCaughtError = (error: unknown) => error instanceof NotLoaded || console.error(error);
createRoot(document.getElementById("root") as HTMLElement, { onCaughtError }).render(
  <QueryClientProvider client={queries}>
    <Shell />
  </QueryClientProvider>,
);

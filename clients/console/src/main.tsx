import { QueryClientProvider } from "@tanstack/react-query";
import { createRoot } from "react-dom/client";
import { queries } from "./live/client.js";
import { openDesk } from "./live/desk.js";
import "./styles/base.css";
import "./styles/parts.css";
import "./styles/pages.css";
import { Shell } from "./ui/shell.js";

openDesk();
createRoot(document.getElementById("root") as HTMLElement).render(
  <QueryClientProvider client={queries}>
    <Shell />
  </QueryClientProvider>,
);

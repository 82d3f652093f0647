/** ⌘K: pages, what waits, workflows, blueprints, commands. */

import { Command } from "cmdk";
import { useQuery } from "@tanstack/react-query";
import { useDeferredValue, useState } from "react";
import { client } from "../live/client.js";
import { useDev } from "../live/dev.js";
import { useDesk } from "../live/hooks.js";
import { usePreferences } from "../live/preferences.js";
import { workflowLook } from "../model/status.js";
import { go, to } from "../model/router.js";
import { text } from "../text.js";
import { Dialog } from "./dialog.js";

export default function Palette({ onClose, onSheet }: { onClose: () => void; onSheet: () => void }) {
  const [typed, setTyped] = useState("");
  const asked = useDeferredValue(typed.trim().slice(0, 200));
  const pauses = useDesk((desk) => desk.pauses) ?? [];
  const found = useQuery({ queryKey: ["palette", asked], queryFn: () => client.list({ q: asked, limit: 8 }), enabled: asked.length >= 2 });
  const blueprints = useQuery({ queryKey: ["blueprints"], queryFn: () => client.blueprints(), staleTime: 60_000 });
  const run = (act: () => void) => () => {
    onClose();
    act();
  };
  const dev = useDev();
  const set = usePreferences((p) => p.set);
  return (
    <Dialog open onClose={onClose} title={text.palette.label} bare>
      <Command label={text.palette.label} loop>
        <Command.Input value={typed} onValueChange={setTyped} placeholder={text.palette.placeholder} data-first maxLength={200} />
        <Command.List>
          <Command.Empty>{text.palette.empty}</Command.Empty>
          <Command.Group heading={text.palette.pages}>
            {(["inbox", "workflows", "start", "dead-letters", "agents", "policies", ...(dev ? (["dev"] as const) : [])] as const).map((page) => (
              <Command.Item key={page} value={`page ${page}`} onSelect={run(() => go(to([page])))}>
                {{ inbox: text.nav.inbox, workflows: text.nav.workflows, start: text.nav.start, "dead-letters": text.nav.deadLetters, agents: text.nav.agents, policies: text.nav.policies, dev: text.nav.dev }[page]}
              </Command.Item>
            ))}
          </Command.Group>
          {pauses.length > 0 ? (
            <Command.Group heading={text.palette.waiting}>
              {pauses.slice(0, 20).map((pause) => (
                <Command.Item
                  key={pause.pause_id}
                  value={`${pause.pause_id} ${pause.trace_id} ${pause.node_id ?? ""} ${pause.failure_reason}`}
                  onSelect={run(() => go(to(["workflows", pause.trace_id], { tab: "intervene", pause: pause.pause_id })))}
                >
                  <span>{pause.node_id ?? pause.trace_id}</span>
                  <span className="dim ellipsis">{pause.failure_reason}</span>
                </Command.Item>
              ))}
            </Command.Group>
          ) : null}
          {(found.data?.items ?? []).length > 0 ? (
            <Command.Group heading={text.palette.workflows}>
              {found.data?.items.map((each) => (
                <Command.Item key={each.trace_id} value={`${each.trace_id} ${each.intent ?? ""} ${asked}`} onSelect={run(() => go(to(["workflows", each.trace_id])))}>
                  <span className="ellipsis">{each.trace_id}</span>
                  <span className="dim ellipsis">{workflowLook(each.status).word} · {each.intent ?? each.blueprint ?? ""}</span>
                </Command.Item>
              ))}
            </Command.Group>
          ) : null}
          <Command.Group heading={text.palette.start}>
            {(blueprints.data?.items ?? []).map((each) => (
              <Command.Item key={each.name} value={`start ${each.name} ${each.title}`} onSelect={run(() => go(to(["start"], { blueprint: each.name })))}>
                {each.title || each.name}
              </Command.Item>
            ))}
          </Command.Group>
          <Command.Group heading={text.palette.actions}>
            {(["light", "dark", "system"] as const).map((theme) => (
              <Command.Item key={theme} value={`theme ${theme}`} onSelect={run(() => set({ theme }))}>
                {text.theme.toggle(text.theme[theme])}
              </Command.Item>
            ))}
            <Command.Item value="keyboard shortcuts" onSelect={run(onSheet)}>
              {text.palette.shortcuts}
            </Command.Item>
          </Command.Group>
        </Command.List>
      </Command>
    </Dialog>
  );
}

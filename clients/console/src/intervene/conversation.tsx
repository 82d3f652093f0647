/** What was said: with whom the agent talked, what tools it called, and a line to say something. */

import { type Message, type Pause, Problem } from "@handrail/client";
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useId, useRef, useState } from "react";
import { client } from "../live/client.js";
import { text } from "../text.js";
import { Ago } from "../ui/parts.js";
import { toast } from "../ui/toasts.js";

type Said = Message & { name?: string; arguments?: unknown };

export default function Conversation({ pause, open }: { pause: Pause; open: boolean }) {
  const list = useRef<HTMLOListElement>(null);
  // A pause that is over has its conversation with the server, with what was said since.
  const whole = useQuery({ queryKey: ["conversation", pause.pause_id, open], queryFn: () => client.getPause(pause.pause_id), enabled: !open });
  const said = ((whole.data as unknown as { conversation?: Said[] } | undefined)?.conversation ?? (pause.transcript as Said[] | null)) ?? [];
  const asked = said.findLastIndex((each) => each.role === "user");
  const last = asked >= 0 ? asked : said.findLastIndex((each) => each.role !== "operator");
  return (
    <section className="conversation">
      <div className="row">
        <h3>{text.escalation.transcript}</h3>
        {said.length > 6 ? (
          <button type="button" className="button quiet" onClick={() => list.current?.querySelector(`[data-n="${last}"]`)?.scrollIntoView({ block: "center" })}>
            {text.escalation.jump}
          </button>
        ) : null}
      </div>
      {said.length === 0 ? <p className="dim">{text.escalation.none}</p> : null}
      <ol ref={list} tabIndex={0} aria-label={text.escalation.transcript}>
        {said.map((each, i) => (
          <Bubble key={i} said={each} n={i} led={i === last} />
        ))}
      </ol>
      {open ? <Reply pause={pause} /> : null}
    </section>
  );
}

function Bubble({ said, n, led }: { said: Said; n: number; led: boolean }) {
  const role = text.escalation.roles[said.role] ?? said.role;
  const folded = said.role === "tool" || said.role === "reasoning";
  return (
    <li data-n={n} data-role={said.role} className={`bubble ${led ? "led" : ""}`}>
      <p className="dim small">
        <strong>{role}</strong> {said.at ? <Ago at={said.at} /> : null}
      </p>
      {folded ? (
        <details>
          <summary>{said.role === "tool" ? text.escalation.tool(said.name ?? said.text.slice(0, 60)) : text.escalation.reasoning}</summary>
          <p className="wrap">{said.text}</p>
        </details>
      ) : (
        <p className="wrap">{said.text}</p>
      )}
    </li>
  );
}

function Reply({ pause }: { pause: Pause }) {
  const id = useId();
  const [typed, setTyped] = useState("");
  const [busy, setBusy] = useState(false);
  const say = async (event: FormEvent) => {
    event.preventDefault();
    if (!typed.trim() || busy) return;
    setBusy(true);
    try {
      await client.say(pause.pause_id, typed.trim());
      setTyped("");
    } catch (error) {
      toast(text.common.failed, error instanceof Problem ? error.detail : String(error), true);
    }
    setBusy(false);
  };
  return (
    <form className="reply" onSubmit={say}>
      <label htmlFor={id}>{text.escalation.reply}</label>
      <textarea id={id} rows={2} value={typed} maxLength={20_000} onChange={(event) => setTyped(event.target.value)} />
      <p className="row">
        <button type="submit" className="button" disabled={busy || !typed.trim()}>
          {text.escalation.send}
        </button>
        <span className="dim small">{text.escalation.sendHint}</span>
      </p>
    </form>
  );
}

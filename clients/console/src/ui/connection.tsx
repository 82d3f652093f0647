/** How the connection stands, always in sight; behind it which service works. */

import type { Connection } from "@handrail/client";
import { Dot, WifiOff } from "lucide-react";
import { useEffect, useId, useState } from "react";
import { client } from "../live/client.js";
import { useDesk, useDeskStale, useNow, useOnline } from "../live/hooks.js";
import { clock } from "../model/time.js";
import { text } from "../text.js";

interface PillProps {
  connection: Connection;
  stale: boolean;
  /** The last event that is shown. */
  seq?: string | undefined;
  over?: boolean;
}

export function DeskPill({ hidden }: { hidden: boolean }) {
  const connection = useDesk((desk) => desk.connection);
  const { stale } = useDeskStale();
  return hidden ? null : <Pill connection={connection} stale={stale} />;
}

type Tone = "good" | "warn" | "bad" | "calm";

function shown(props: PillProps, online: boolean, waitingSince: number, now: number): { word: string; tone: Tone } {
  const { connection, stale, over } = props;
  const t = text.connection;
  if (!online) return { word: t.offline, tone: "bad" };
  if (over) return { word: t.closed, tone: "calm" };
  if (stale) return { word: t.stale, tone: "bad" };
  if (connection.state === "live") return { word: t.live, tone: "good" };
  if (connection.state === "waiting") {
    const left = Math.max(0, Math.ceil((waitingSince + connection.delayMs - now) / 1000));
    return { word: t.reconnecting(connection.attempt, left), tone: "warn" };
  }
  return connection.state === "closed" ? { word: t.failed, tone: "bad" } : { word: t.connecting, tone: "calm" };
}

export function Pill(props: PillProps) {
  const { connection, seq } = props;
  const online = useOnline();
  const [since, setSince] = useState(Date.now());
  // biome-ignore lint: each wait begins anew
  useEffect(() => setSince(Date.now()), [connection]);
  const now = useNow(1000, connection.state === "waiting");
  const { word, tone } = shown(props, online, since, now);
  const id = useId();
  const [open, setOpen] = useState(false);
  return (
    <span className="pill-place">
      <button
        type="button"
        className="pill"
        data-tone={tone}
        data-testid="connection"
        title={seq ? text.connection.seq(seq) : text.connection.details}
        popoverTarget={id}
      >
        {tone === "bad" ? <WifiOff size={14} aria-hidden /> : <Dot size={20} className="pill-dot" aria-hidden />}
        <span>{word}</span>
      </button>
      <div id={id} popover="auto" className="popover" onToggle={(event) => setOpen(event.newState === "open")}>
        {open ? <Services connection={connection} over={props.over ?? false} /> : null}
      </div>
    </span>
  );
}

interface Ready {
  status: string;
  checks?: Record<string, { ok?: boolean; ms?: number }>;
}

function Services({ connection, over }: { connection: Connection; over: boolean }) {
  const [ready, setReady] = useState<Ready | "unreachable" | null>(null);
  useEffect(() => {
    client.ready().then(
      (answer) => setReady(answer as Ready),
      () => setReady("unreachable"),
    );
  }, []);
  const t = text.connection;
  return (
    <div>
      <h2>{t.services}</h2>
      {over ? <p>{t.closedHint}</p> : null}
      {connection.reason ? <p>{t.because(connection.reason)}</p> : null}
      {ready === null ? (
        <p>{text.common.loading}</p>
      ) : ready === "unreachable" ? (
        <p>{t.unreachable}</p>
      ) : (
        <>
          <p>{ready.status === "ready" ? t.ready : t.notReady}</p>
          <ul className="services">
            {Object.entries(ready.checks ?? {}).map(([name, check]) => (
              <li key={name} data-tone={check.ok ? "good" : "bad"}>
                <strong>{name}</strong> {check.ok ? t.serviceOk(check.ms ?? 0) : t.serviceBad}
              </li>
            ))}
          </ul>
          <p className="dim small">{t.checkedAt(clock(Date.now()))}</p>
        </>
      )}
    </div>
  );
}

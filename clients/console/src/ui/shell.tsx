/** What surrounds every page: the bar, banners, shortcuts, and which page an address means. */

import { FlaskConical, Inbox, List, MailWarning, Play, Scale, Search, Users } from "lucide-react";
import { useEffect, useRef, useState } from "react";
import { useDev } from "../live/dev.js";
import { useDesk, useOnline } from "../live/hooks.js";
import { useSkew } from "../live/skew.js";
import { go, Link, to, useAddress } from "../model/router.js";
import { text } from "../text.js";
import { LiveRegions } from "./announce.js";
import { DeskPill } from "./connection.js";
import { Dialog } from "./dialog.js";
import { useCurrentInView } from "./keep-in-view.js";
import { useShortcuts } from "./keys.js";
import { ThemeButton, UserButton } from "./menus.js";
import { part, Place } from "./part.js";
import { usePageTitle } from "./page-title.js";
import { Empty, Skeleton } from "./parts.js";
import { Toasts } from "./toasts.js";

const InboxPage = part(() => import("../pages/inbox.js"));
const RunsPage = part(() => import("../pages/runs.js"));
const RunPage = part(() => import("../pages/run.js"));
const StartPage = part(() => import("../pages/start.js"));
const LettersPage = part(() => import("../pages/letters.js"));
const PoliciesPage = part(() => import("../pages/policies.js"));
const AgentsPage = part(() => import("../pages/agents.js"));
const DevPage = part(() => import("../pages/dev.js"));
const Palette = part(() => import("./palette.js"));

export function Shell() {
  const { parts } = useAddress();
  const [palette, setPalette] = useState(false);
  const [sheet, setSheet] = useState(false);
  useShortcuts({ palette: () => setPalette(true), sheet: () => setSheet(true) });
  const page = parts[0] ?? "inbox";
  useEffect(() => {
    if (parts.length === 0) go(to(["inbox"]), "replace");
  }, [parts.length]);
  const main = useRef<HTMLElement>(null);
  useNewPage(page + (parts[1] ?? ""), main);
  return (
    <>
      <a className="skip" href="#main">
        {text.skipToMain}
      </a>
      <TopBar page={page} onRun={page === "workflows" && parts.length > 1} onSearch={() => setPalette(true)} />
      <Banners />
      <main id="main" ref={main} tabIndex={-1}>
        <Place key={page + (parts[1] ?? "")} fallback={<Skeleton />}>
          <Page page={page} rest={parts.slice(1)} />
        </Place>
      </main>
      <LiveRegions />
      <Toasts />
      {palette ? (
        <Place dialog={{ title: text.palette.label, onClose: () => setPalette(false) }}>
          <Palette onClose={() => setPalette(false)} onSheet={() => setSheet(true)} />
        </Place>
      ) : null}
      <Dialog open={sheet} onClose={() => setSheet(false)} title={text.keys.title}>
        <dl className="keys">
          {text.keys.list.map(([key, what]) => (
            <div key={key}>
              <dt>
                <kbd>{key}</kbd>
              </dt>
              <dd>{what}</dd>
            </div>
          ))}
        </dl>
        <p className="dim small">{text.keys.off}</p>
      </Dialog>
    </>
  );
}

function Page({ page, rest }: { page: string; rest: readonly string[] }) {
  if (page === "workflows" || page === "runs") return rest[0] ? <RunPage key={rest[0]} traceId={rest[0]} /> : <RunsPage />;
  if (page === "start") return <StartPage />;
  if (page === "dead-letters" || page === "dlq") return <LettersPage />;
  if (page === "agents") return <AgentsPage />;
  if (page === "policies") return <PoliciesPage />;
  if (page === "dev") return <DevPage />;
  return page === "inbox" ? <InboxPage /> : <NoPage />;
}

function NoPage() {
  usePageTitle(text.common.noPage);
  return (
    <div className="page">
      <Empty title={text.common.noPage}>
        <p>{text.common.noPageHint}</p>
        <Link className="button" href={to(["inbox"])}>
          {text.nav.inbox}
        </Link>
      </Empty>
    </div>
  );
}

/** A screen reader starts a new page at its beginning, as with any page. */
function useNewPage(name: string, main: React.RefObject<HTMLElement | null>): void {
  const before = useRef(name);
  useEffect(() => {
    if (before.current === name) return;
    before.current = name;
    window.scrollTo(0, 0);
    main.current?.focus({ preventScroll: true });
  }, [name, main]);
}

function TopBar({ page, onRun, onSearch }: { page: string; onRun: boolean; onSearch: () => void }) {
  const waiting = useDesk((desk) => desk.pauses?.length ?? 0);
  const more = useDesk((desk) => desk.truncated);
  useEffect(() => {
    const name = document.title.replace(/^\(\d+\) /, "").replace(` · ${text.name}`, "");
    document.title = text.title(name === text.name ? text.nav.inbox : name, waiting);
  }, [waiting]);
  const dev = useDev();
  const nav = useRef<HTMLElement>(null);
  useCurrentInView(nav, page, dev);
  const items = [
    { key: "inbox", label: text.nav.inbox, icon: Inbox },
    { key: "workflows", label: text.nav.workflows, icon: List },
    { key: "start", label: text.nav.start, icon: Play },
    { key: "dead-letters", label: text.nav.deadLetters, icon: MailWarning },
    { key: "agents", label: text.nav.agents, icon: Users },
    { key: "policies", label: text.nav.policies, icon: Scale },
    ...(dev ? [{ key: "dev", label: text.nav.dev, icon: FlaskConical }] : []),
  ];
  return (
    <header className="bar">
      <Link href={to(["inbox"])} className="brand">
        <img src="/console/icon.svg" alt="" width={22} height={22} />
        <span>{text.name}</span>
      </Link>
      <nav ref={nav} aria-label={text.nav.label}>
        {items.map(({ key, label, icon: Icon }) => (
          <Link key={key} href={to([key])} aria-current={page === key ? "page" : undefined} className="nav-item">
            <Icon size={16} aria-hidden />
            <span>{label}</span>
            {key === "inbox" && waiting > 0 ? (
              <span className="count" data-testid="inbox-count">
                <span aria-hidden>
                  {waiting}
                  {more ? "+" : ""}
                </span>
                <span className="visually-hidden">{text.nav.waiting(waiting, more)}</span>
              </span>
            ) : null}
          </Link>
        ))}
      </nav>
      <div className="bar-end">
        <span className="chip environment" title={text.nav.environment(window.location.host)}>
          {window.location.host}
        </span>
        <button type="button" className="button quiet" onClick={onSearch} title={text.nav.search}>
          <Search size={16} aria-hidden />
          <span className="visually-hidden">{text.nav.search}</span>
          <kbd className="wide-only">⌘K</kbd>
        </button>
        <DeskPill hidden={onRun} />
        <span id="run-pill" />
        <ThemeButton />
        <UserButton />
      </div>
    </header>
  );
}

function Banners() {
  const online = useOnline();
  const updated = useSkew();
  return (
    <>
      {online ? null : (
        <p className="banner" data-tone="warn" role="status">
          {text.banner.offline}
        </p>
      )}
      {updated ? (
        <p className="banner" data-tone="warn" role="status">
          {text.banner.updated}{" "}
          <button type="button" className="button" onClick={() => window.location.reload()}>
            {text.banner.reload}
          </button>
        </p>
      ) : null}
    </>
  );
}

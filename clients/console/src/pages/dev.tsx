/** Where whoever builds on a laptop tries things out. It exists only where the server says that it does. */

import { FlaskConical } from "lucide-react";
import { useRef } from "react";
import { startDemo, useDev } from "../live/dev.js";
import { DEMOS } from "../model/demos.js";
import { Link, to, useAddress } from "../model/router.js";
import { dev } from "../text-dev.js";
import { useCurrentInView } from "../ui/keep-in-view.js";
import { usePageTitle } from "../ui/page-title.js";
import { Empty, Skeleton } from "../ui/parts.js";
import { Commands } from "./dev-command.js";
import { Faults } from "./dev-fault.js";
import { Schemas } from "./dev-schemas.js";
import { Topics } from "./dev-topics.js";

const TABS = ["demos", "command", "fault", "topics", "schemas"] as const;
type Tab = (typeof TABS)[number];

export default function DevPage() {
  usePageTitle(dev.title);
  const here = useDev();
  const { query } = useAddress();
  const tab: Tab = TABS.find((each) => each === query.get("tab")) ?? "demos";
  const tabs = useRef<HTMLElement>(null);
  useCurrentInView(tabs, tab, here);
  if (here === undefined) return <Skeleton />;
  if (!here) {
    return (
      <Empty title={dev.absent} icon={<FlaskConical size={40} aria-hidden />}>
        <p>{dev.absentHint}</p>
      </Empty>
    );
  }
  return (
    <div className="page dev">
      <h1>{dev.title}</h1>
      <p className="dim">{dev.hint}</p>
      <nav ref={tabs} className="tabs" aria-label={dev.title}>
        {TABS.map((each) => (
          <Link key={each} href={to(["dev"], { tab: each === "demos" ? null : each })} aria-current={tab === each ? "page" : undefined} className="tab-link">
            {dev.tabs[each]}
          </Link>
        ))}
      </nav>
      {tab === "demos" ? <Stories /> : null}
      {tab === "command" ? <Commands /> : null}
      {tab === "fault" ? <Faults /> : null}
      {tab === "topics" ? <Topics /> : null}
      {tab === "schemas" ? <Schemas /> : null}
    </div>
  );
}

function Stories() {
  return (
    <ul className="cards">
      {DEMOS.map((each) => (
        <li key={each.key} className="card">
          <strong>{each.label}</strong>
          <span className="dim small">{each.hint}</span>
          <span className="row">
            <span className="chip" data-tone={each.asks ? "human" : "good"}>
              {each.asks ? dev.asks : dev.runs}
            </span>
          </span>
          <button type="button" className="button" data-demo={each.key} aria-label={`${dev.start}: ${each.label}`} onClick={() => void startDemo(each)}>
            {dev.start}
          </button>
        </li>
      ))}
    </ul>
  );
}

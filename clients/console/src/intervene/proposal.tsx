/** The proposed action: in a sentence, as a difference, and with its arguments. */

import type { Pause } from "@handrail/client";
import { useState } from "react";
import { useWide } from "../live/hooks.js";
import { text } from "../text.js";
import { Facts } from "../ui/parts.js";
import { Difference } from "./difference.js";
import { proposedOf } from "./proposed.js";

export default function Proposal({ pause }: { pause: Pause }) {
  const proposed = proposedOf(pause);
  const wide = useWide();
  const [split, setSplit] = useState(wide);
  const { diff } = proposed;
  const risk = (pause.risk as { four_eyes?: boolean; requested_by?: string | null } | null | undefined) ?? {};
  return (
    <section className="proposal">
      <h3>{text.approve.summary}</h3>
      <p className="proposal-summary wrap">{proposed.summary ?? proposed.action ?? ""}</p>
      {typeof proposed.reversible === "boolean" ? (
        <p className={proposed.reversible ? "dim" : "warn-text"}>{proposed.reversible ? text.approve.reversible : text.approve.irreversible}</p>
      ) : null}
      {typeof proposed.affected === "number" ? <p className="warn-text">{text.approve.affected(proposed.affected)}</p> : null}
      {risk.four_eyes ? <p className="warn-text">{text.approve.fourEyes(risk.requested_by ?? "")}</p> : null}
      {diff && (diff.before !== undefined || diff.after !== undefined) ? (
        <>
          <div className="segmented" role="group" aria-label={text.approve.changes(2)}>
            <button type="button" aria-pressed={!split} onClick={() => setSplit(false)}>
              {text.approve.unified}
            </button>
            <button type="button" aria-pressed={split} onClick={() => setSplit(true)}>
              {text.approve.split}
            </button>
          </div>
          <Difference before={diff.before} after={diff.after} split={split} />
        </>
      ) : (
        <p className="dim">{text.approve.noDiff}</p>
      )}
      {proposed.args && Object.keys(proposed.args).length > 0 ? (
        <>
          <h4>{text.approve.arguments}</h4>
          <Facts of={proposed.args} />
        </>
      ) : null}
    </section>
  );
}

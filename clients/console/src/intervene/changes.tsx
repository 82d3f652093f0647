/** Everything that a button would change, by step. */

import type { Preview } from "@handrail/client";
import { text } from "../text.js";
import { NodeBadge, WorkflowBadge } from "../ui/parts.js";

const MOST = 50;

export function Changes({ of }: { of: Preview }) {
  const standing = of.standing ?? [];
  if (of.nodes.length === 0 && of.undo.length === 0 && standing.length === 0) return null;
  return (
    <details className="changes" open={of.nodes.length <= 8}>
      <summary>
        {text.pause.previewTitle} <WorkflowBadge status={of.status_after} small />
      </summary>
      <ul>
        {of.nodes.slice(0, MOST).map((node) => (
          <li key={node.node_id}>
            <span className="change-id">{node.node_id}</span> <NodeBadge state={node.from} small /> <span aria-hidden>→</span> <NodeBadge state={node.to} small />
          </li>
        ))}
        {of.nodes.length > MOST ? <li className="dim">{text.effect.more(of.nodes.length - MOST)}</li> : null}
      </ul>
      {of.undo.length > 0 ? <p className="small">{text.effect.undo(of.undo.join(" → "))}</p> : null}
      {standing.length > 0 ? <p className="small">{text.effect.keep(standing.join(", "))}</p> : null}
    </details>
  );
}

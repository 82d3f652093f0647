/** The same steps as a table: the equal of the picture, and what narrow screens show. */

import type { NodeView } from "@handrail/client";
import { useMemo } from "react";
import { isFault, isUndo, nodeLook } from "../model/status.js";
import { text } from "../text.js";
import { Badge, Took } from "../ui/parts.js";
import { depthOf, inOrder } from "./order.js";

interface Props {
  nodes: readonly NodeView[];
  selected: string | null;
  onSelect: (id: string | null) => void;
  added?: ReadonlySet<string>;
}

export function Outline({ nodes, selected, onSelect, added }: Props) {
  const depth = useMemo(() => depthOf(nodes), [nodes]);
  const rows = useMemo(() => inOrder(nodes), [nodes]);
  if (nodes.length === 0) return <p className="dim graph-empty">{text.graph.empty}</p>;
  const c = text.graph.columns;
  return (
    <table className="table outline" aria-label={text.graph.outlineLabel}>
      <thead>
        <tr>
          <th scope="col">{c.step}</th>
          <th scope="col">{c.status}</th>
          <th scope="col" className="wide-only">
            {c.agent}
          </th>
          <th scope="col">{c.attempt}</th>
          <th scope="col">{c.time}</th>
        </tr>
      </thead>
      <tbody>
        {rows.map((node) => (
          <Row key={node.id} node={node} depth={depth.get(node.id) ?? 0} chosen={selected === node.id} onSelect={onSelect} added={added?.has(node.id) ?? false} />
        ))}
      </tbody>
    </table>
  );
}

function Row(props: { node: NodeView; depth: number; chosen: boolean; added: boolean; onSelect: (id: string | null) => void }) {
  const { node, depth, chosen, added, onSelect } = props;
  const look = nodeLook(node.state);
  return (
    <tr className={`${chosen ? "chosen" : ""} ${isFault(node.state) ? "fault-row" : ""}`} data-step={node.id} data-state={node.state}>
      <th scope="row">
        <button type="button" className="link-button" aria-expanded={chosen} onClick={() => onSelect(chosen ? null : node.id)}>
          <span className={`indent indent-${Math.min(depth, 6)}`} aria-hidden />
          {node.id}
          {added ? <span className="chip">+</span> : null}
        </button>
        {node.depends_on.length > 0 ? <span className="dim small outline-after">{text.graph.depends(node.depends_on.join(", "))}</span> : null}
      </th>
      <td>
        <Badge look={look} small />
        {isUndo(node.state) && (node.undo_attempt ?? 0) > 1 ? <span className="dim small"> {text.graph.attempt(node.undo_attempt ?? 0, node.max_attempts)}</span> : null}
      </td>
      <td className="wide-only dim">{node.agent}</td>
      <td className="number">{node.attempt > 0 ? `${node.attempt}/${Math.max(node.attempt, node.max_attempts)}` : ""}</td>
      <td className="number">
        <Took from={node.started_at} to={node.finished_at} />
      </td>
    </tr>
  );
}

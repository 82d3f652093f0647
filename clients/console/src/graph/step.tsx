/** A step in the picture, and its undo in the lane below. */

import type { NodeProps } from "@xyflow/react";
import { memo } from "react";
import { nodeLook } from "../model/status.js";
import { text } from "../text.js";
import { StatusIcon } from "../ui/icons.js";
import { Took } from "../ui/parts.js";
import { isMarked } from "./marks.js";
import type { LaneNode, StepNode } from "./elements.js";

export const Step = memo(function Step({ data }: NodeProps<StepNode>) {
  const { node, n, of, dim, fault, selected, tabbable, added } = data;
  const look = nodeLook(node.state);
  const attempt = node.attempt > 0 && node.max_attempts > 1 ? text.graph.attempt(node.attempt, Math.max(node.attempt, node.max_attempts)) : "";
  return (
    <div
      className={`step ${dim ? "dimmed" : ""} ${fault ? "fault" : ""} ${selected ? "chosen" : ""}`}
      data-token={look.token}
      data-state={node.state}
      data-step={node.id}
      role="button"
      tabIndex={tabbable ? 0 : -1}
      aria-label={text.graph.node(node.id, n, of, look.word.toLowerCase(), attempt)}
      aria-expanded={selected}
    >
      {isMarked(look.token) ? <span className="step-mark" /> : <StatusIcon token={look.token} size={20} />}
      <span className="step-main">
        <span className={isLong(node.id, 23) ? "step-name cut" : "step-name"} title={node.id}>
          {node.id}
        </span>
        <span className="step-line">
          <span className="step-word">{look.word}</span>
          {node.attempt > 1 ? <span className="step-attempt">{`${node.attempt}/${Math.max(node.attempt, node.max_attempts)}`}</span> : null}
          <Took from={node.started_at} to={node.finished_at} />
        </span>
        <span className={isLong(node.agent, 27) ? "step-agent cut" : "step-agent"} title={node.agent}>
          {node.agent}
        </span>
      </span>
      {added ? (
        <span className="step-added" title={text.graph.added}>
          +
        </span>
      ) : null}
    </div>
  );
});

/** Whether it may not fit. Only what does not is cut off: each place that cuts costs a frame its share. */
function isLong(text: string, most: number): boolean {
  let wide = 0;
  for (const each of text) wide += /[a-z0-9 _.:-]/.test(each) ? (each === "m" || each === "w" ? 1.6 : 1) : each < "\u0080" ? 1.5 : 2;
  return wide > most;
}

export const Lane = memo(function Lane({ data }: NodeProps<LaneNode>) {
  const look = nodeLook(data.node.state);
  return (
    <div className="lane" data-token={look.token} title={text.graph.undoOf(data.node.id, look.word)}>
      <StatusIcon token={look.token} size={14} />
      <span>{text.graph.undo}</span>
      <span className="step-word">{look.word}</span>
    </div>
  );
});

/** The picture of a workflow: its steps as a graph that is seen, heard and walked. */

import { Background, MiniMap, ReactFlow, ReactFlowProvider, useReactFlow, ViewportPortal } from "@xyflow/react";
import { Crosshair, Maximize, Minus, Plus } from "lucide-react";
import { type KeyboardEvent, type MouseEvent, useCallback, useEffect, useId, useMemo, useRef, useState } from "react";
import type { NodeView } from "@handrail/client";
import { useMedia } from "../live/hooks.js";
import { usePreferences } from "../live/preferences.js";
import { isActive, isFault, nodeLook } from "../model/status.js";
import { text } from "../text.js";
import { type Any, Elements } from "./elements.js";
import { Marks } from "./marks.js";
import { NODE, type Placed } from "./places.js";
import { Lane, Step } from "./step.js";
import { usePlaces } from "./use-places.js";
import { type Direction, step } from "./walk.js";
import { Wires } from "./wires.js";

const TYPES = { step: Step, lane: Lane };
/** Above it steps come and go while the picture is moved, which costs more per frame than steps that stay. */
const ONLY_VISIBLE_FROM = 1_500;
const MINIMAP_FROM = 30;
const FIT = { padding: 0.08, maxZoom: 1.1, minZoom: 0.05 };
/** At first a large plan is shown so that it can be read, with what matters most in the middle; F shows all of it. */
const FIRST = { ...FIT, minZoom: 0.3 };
const READABLE = 0.6;

export interface PictureProps {
  nodes: readonly NodeView[];
  selected: string | null;
  onSelect: (id: string | null) => void;
  added?: ReadonlySet<string>;
  calm?: boolean;
}

const NONE: ReadonlySet<string> = new Set();

export default function Picture(props: PictureProps) {
  return (
    <ReactFlowProvider>
      <Drawn {...props} />
    </ReactFlowProvider>
  );
}

function Drawn({ nodes, selected, onSelect, added = NONE, calm = false }: PictureProps) {
  const places = usePlaces(nodes);
  const elements = useMemo(() => new Elements(), []);
  const [focused, setFocused] = useState<string | null>(null);
  const tabbable = focused ?? nodes.find((node) => isFault(node.state))?.id ?? nodes[0]?.id ?? null;
  const flow = useReactFlow();
  const box = useRef<HTMLDivElement>(null);
  const still = useMedia("(prefers-reduced-motion: reduce)");
  const id = useId();
  const drawn = useMemo(
    () => (places ? elements.of({ nodes, places, selected, tabbable, added, calm }) : { nodes: [], wires: [], marks: [] }),
    [elements, nodes, places, selected, tabbable, added, calm],
  );

  const fit = useCallback(() => void flow.fitView({ ...FIT, duration: still ? 0 : 200 }), [flow, still]);
  const latest = useRef({ nodes, places });
  latest.current = { nodes, places };
  const first = useCallback(async () => {
    await flow.fitView(FIRST);
    const { nodes: now, places: at } = latest.current;
    const element = box.current;
    if (!at || !element || fits(at, element)) return;
    const place = at.get(pressing(now) ?? "");
    if (place) await flow.setCenter(place.x + NODE.width / 2, place.y + NODE.height / 2, { zoom: READABLE });
  }, [flow]);
  // Also where the room changes: a panel opens, a telephone is turned.
  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const observer = new ResizeObserver(() => void first());
    observer.observe(element);
    // The library says "application", which takes the reading keys away from screen readers.
    element.querySelector(".react-flow")?.setAttribute("role", "presentation");
    return () => observer.disconnect();
  }, [first]);
  useEffect(() => {
    if (places) requestAnimationFrame(() => void first());
  }, [first, places]);
  useFollow(nodes, flow, still);

  const focus = (next: string) => {
    setFocused(next);
    const at = places?.get(next);
    if (at) void flow.setCenter(at.x + NODE.width / 2, at.y + 50, { zoom: Math.max(flow.getZoom(), 0.6), duration: still ? 0 : 150 });
    requestAnimationFrame(() => box.current?.querySelector<HTMLElement>(`[data-step="${CSS.escape(next)}"]`)?.focus());
  };

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !places) return;
    const here = (event.target as HTMLElement).closest<HTMLElement>("[data-step]")?.dataset.step ?? tabbable;
    const done = () => {
      event.preventDefault();
      event.stopPropagation();
    };
    if (event.key.startsWith("Arrow") && here) {
      done();
      focus(step(nodes, places, here, event.key as Direction));
    } else if ((event.key === "Enter" || event.key === " ") && here) {
      done();
      onSelect(here);
    } else if (event.key === "Escape" && selected) {
      done();
      onSelect(null);
    } else if (event.key === "f" || event.key === "0") {
      done();
      fit();
    } else if (event.key === "+" || event.key === "=") {
      done();
      void flow.zoomIn();
    } else if (event.key === "-") {
      done();
      void flow.zoomOut();
    }
  };

  const onNodeClick = (_: MouseEvent, node: Any) => {
    const target = node.type === "lane" ? node.data.node.id : node.id;
    setFocused(target);
    onSelect(selected === target ? null : target);
  };

  if (nodes.length === 0) return <p className="dim graph-empty">{text.graph.empty}</p>;
  return (
    <div className="graph" ref={box} onKeyDown={onKeyDown} role="group" aria-label={text.graph.label} aria-describedby={id}>
      <p id={id} className="visually-hidden">
        {text.graph.instructions}
      </p>
      <ReactFlow<Any>
        nodes={drawn.nodes}
        nodeTypes={TYPES}
        onNodeClick={onNodeClick}
        onMoveStart={(event) => event && usePreferences.getState().set({ follow: false })}
        nodesDraggable={false}
        nodesConnectable={false}
        nodesFocusable={false}
        elementsSelectable={false}
        disableKeyboardA11y
        onlyRenderVisibleElements={nodes.length >= ONLY_VISIBLE_FROM}
        minZoom={0.05}
        maxZoom={2}
        fitView
        fitViewOptions={FIRST}
      >
        <Background gap={24} size={1} />
        <ViewportPortal>
          <Wires of={drawn.wires} />
          <Marks of={drawn.marks} />
        </ViewportPortal>
        {places && nodes.length >= MINIMAP_FROM ? <MiniMap<Any> pannable nodeClassName={(node) => `mini mini-${nodeLook(node.data.node.state).token}`} ariaLabel={null} /> : null}
      </ReactFlow>
      {places ? null : <p className="dim graph-placing">{text.graph.placing}</p>}
      <Tools fit={fit} zoomIn={() => void flow.zoomIn()} zoomOut={() => void flow.zoomOut()} />
    </div>
  );
}

function Tools(props: { fit: () => void; zoomIn: () => void; zoomOut: () => void }) {
  const follow = usePreferences((p) => p.follow);
  const set = usePreferences((p) => p.set);
  return (
    <div className="graph-tools">
      <button type="button" className="button icon-only" aria-label={text.graph.zoomIn} title={text.graph.zoomIn} onClick={props.zoomIn}>
        <Plus size={16} aria-hidden />
      </button>
      <button type="button" className="button icon-only" aria-label={text.graph.zoomOut} title={text.graph.zoomOut} onClick={props.zoomOut}>
        <Minus size={16} aria-hidden />
      </button>
      <button type="button" className="button icon-only" aria-label={text.graph.fit} title={text.graph.fit} onClick={props.fit}>
        <Maximize size={16} aria-hidden />
      </button>
      <button type="button" className="button" aria-pressed={follow} title={text.graph.followHint} onClick={() => set({ follow: !follow })}>
        <Crosshair size={16} aria-hidden /> <span>{text.graph.follow}</span>
      </button>
    </div>
  );
}

/** Whether all of it can be read at once. */
function fits(places: ReadonlyMap<string, Placed>, room: HTMLElement): boolean {
  const all = [...places.values()];
  const width = Math.max(...all.map(({ x }) => x)) - Math.min(...all.map(({ x }) => x)) + NODE.width;
  const height = Math.max(...all.map(({ y }) => y)) - Math.min(...all.map(({ y }) => y)) + NODE.height;
  return Math.min(room.clientWidth / width, room.clientHeight / height) >= FIRST.minZoom;
}

/** The step that one looks for: what waits for a person, else what has failed, else what is under way. */
function pressing(nodes: readonly NodeView[]): string | undefined {
  const found = nodes.find((node) => node.state === "AWAITING_HUMAN") ?? nodes.find((node) => isFault(node.state)) ?? nodes.find((node) => isActive(node.state));
  return found?.id;
}

/** Keeps what is running in the middle, until somebody moves the picture by hand. */
function useFollow(nodes: readonly NodeView[], flow: ReturnType<typeof useReactFlow>, still: boolean): void {
  const follow = usePreferences((p) => p.follow);
  const front = nodes
    .filter((node) => isActive(node.state) || isFault(node.state))
    .map((node) => node.id)
    .join(" ");
  useEffect(() => {
    if (!follow || !front) return;
    const ids = front.split(" ").map((id) => ({ id }));
    void flow.fitView({ nodes: ids, padding: 0.6, maxZoom: 1, duration: still ? 0 : 300 });
  }, [follow, front, flow, still]);
}

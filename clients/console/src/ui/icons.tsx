/** The icon of each status. The word stands beside it, so it is hidden from screen readers. */

import { Check, Circle, CircleMinus, CircleQuestionMark, Hand, LoaderCircle, OctagonX, SkipForward, Undo2 } from "lucide-react";
import type { ComponentType } from "react";
import type { Token } from "../model/status.js";

type Icon = ComponentType<{ size?: number | string; className?: string; "aria-hidden"?: boolean }>;

const UndoCheck: Icon = ({ size = 16, className }) => (
  <svg
    aria-hidden
    className={className}
    width={size}
    height={size}
    viewBox="0 0 24 24"
    fill="none"
    stroke="currentColor"
    strokeWidth="2"
    strokeLinecap="round"
    strokeLinejoin="round"
  >
    <path d="M8 12 3 7l5-5M3 7h11a6 6 0 0 1 6 5" />
    <path d="m9 18 3 3 8-7" />
  </svg>
);

const ICONS: Record<Token, Icon> = {
  pending: Circle,
  progress: LoaderCircle,
  complete: Check,
  failed: OctagonX,
  human: Hand,
  compensating: Undo2,
  compensated: UndoCheck,
  skipped: SkipForward,
  cancelled: CircleMinus,
  unknown: CircleQuestionMark,
};

export function StatusIcon({ token, size = 16 }: { token: Token; size?: number }) {
  const Found = ICONS[token];
  const moves = token === "progress" ? "spin" : token === "compensating" ? "nudge" : "";
  return <Found size={size} className={`status-icon ${moves}`} aria-hidden />;
}

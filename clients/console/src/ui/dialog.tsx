/** A modal dialog: the browser's own, which keeps the focus inside, closes on Esc and gives the focus back. */

import { X } from "lucide-react";
import { type ReactNode, useEffect, useId, useRef } from "react";
import { text } from "../text.js";

export function Dialog(props: { open: boolean; onClose: () => void; title: string; children: ReactNode; wide?: boolean; bare?: boolean }) {
  const { open, onClose, title, children, wide, bare } = props;
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = ref.current;
    if (!dialog) return;
    if (open && !dialog.open) {
      dialog.showModal();
      // React knows no `autofocus` attribute: it focuses as it mounts, and opening takes the focus away again.
      dialog.querySelector<HTMLElement>("[data-first]")?.focus();
    }
    if (!open && dialog.open) dialog.close();
  }, [open]);
  return (
    <dialog
      ref={ref}
      className={`dialog ${wide ? "wide" : ""} ${bare ? "bare" : ""}`}
      aria-labelledby={bare ? undefined : id}
      aria-label={bare ? title : undefined}
      onClose={onClose}
      onClick={(event) => event.target === ref.current && onClose()}
    >
      {open ? (
        <div className="dialog-body">
          {bare ? null : (
            <header>
              <h2 id={id}>{title}</h2>
              <button type="button" className="button quiet icon-only" aria-label={text.common.close} onClick={onClose}>
                <X size={16} aria-hidden />
              </button>
            </header>
          )}
          {children}
        </div>
      ) : null}
    </dialog>
  );
}

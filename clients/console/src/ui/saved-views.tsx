/** Named filters of a list, and the way to name the ones that are set. */

import { Bookmark, X } from "lucide-react";
import { type FormEvent, useState } from "react";
import { queryOf, useViews } from "../live/views.js";
import { Link, to, useAddress } from "../model/router.js";
import { text } from "../text.js";
import { Dialog } from "./dialog.js";

export function SavedViews({ page }: { page: "inbox" | "workflows" }) {
  const { query } = useAddress();
  const now = queryOf(query);
  const views = useViews((held) => held.of[page]);
  const { save, forget } = useViews.getState();
  const known = views.some((view) => view.query === now);
  if (views.length === 0 && now === "") return null;
  return (
    <div className="saved-views">
      {views.map((view) => (
        <span key={view.name} className="saved-view">
          <Link href={to([page], Object.fromEntries(new URLSearchParams(view.query)))} aria-current={view.query === now ? "page" : undefined}>
            {view.name}
          </Link>
          <button type="button" className="button quiet icon-only" aria-label={text.views.forget(view.name)} title={text.views.forget(view.name)} onClick={() => forget(page, view.name)}>
            <X size={14} aria-hidden />
          </button>
        </span>
      ))}
      {now !== "" && !known ? <Save save={(name) => save(page, { name, query: now })} /> : null}
    </div>
  );
}

function Save({ save }: { save: (name: string) => void }) {
  const [open, setOpen] = useState(false);
  const [name, setName] = useState("");
  const keep = (event: FormEvent) => {
    event.preventDefault();
    if (!name.trim()) return;
    setOpen(false);
    save(name.trim());
  };
  return (
    <>
      <button type="button" className="button quiet" onClick={() => setOpen(true)}>
        <Bookmark size={16} aria-hidden /> {text.views.save}
      </button>
      <Dialog open={open} onClose={() => setOpen(false)} title={text.views.save}>
        <form className="stack" onSubmit={keep}>
          <label className="field">
            {text.views.name}
            <input value={name} maxLength={40} autoFocus onChange={(event) => setName(event.target.value)} />
          </label>
          <p className="row">
            <button type="submit" className="button primary" disabled={!name.trim()}>
              {text.views.keep}
            </button>
          </p>
        </form>
      </Dialog>
    </>
  );
}

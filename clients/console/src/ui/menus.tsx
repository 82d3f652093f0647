/** The menus of the bar: theme, and who acts. */

import { Moon, Sun, SunMoon, User } from "lucide-react";
import { type FormEvent, useId, useState } from "react";
import { type Theme, usePreferences } from "../live/preferences.js";
import { text } from "../text.js";

const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const ICON = { system: SunMoon, light: Sun, dark: Moon };

export function ThemeButton() {
  const theme = usePreferences((p) => p.theme);
  const set = usePreferences((p) => p.set);
  const Icon = ICON[theme];
  const label = text.theme.toggle(text.theme[theme]);
  return (
    <button type="button" className="button quiet icon-only" aria-label={label} title={label} onClick={() => set({ theme: NEXT[theme] })}>
      <Icon size={16} aria-hidden />
    </button>
  );
}

export function UserButton() {
  const { actor, singleKeys, set } = usePreferences();
  const [name, setName] = useState(actor);
  const id = useId();
  const field = useId();
  const save = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    set({ actor: name.trim().slice(0, 100) || "local" });
    document.getElementById(id)?.hidePopover();
  };
  return (
    <span className="pill-place">
      <button type="button" className="button quiet" popoverTarget={id} aria-label={text.user.label(actor)} title={text.user.label(actor)}>
        <User size={16} aria-hidden /> <span className="wide-only user-name">{actor}</span>
      </button>
      <div id={id} popover="auto" className="popover">
        <form onSubmit={save} className="stack">
          <label htmlFor={field}>{text.user.actor}</label>
          <input id={field} value={name} maxLength={100} onChange={(event) => setName(event.target.value)} autoComplete="name" />
          <p className="dim small">{text.user.actorHelp}</p>
          <label className="check">
            <input type="checkbox" checked={singleKeys} onChange={(event) => set({ singleKeys: event.target.checked })} />
            {text.user.singleKeys}
          </label>
          <button type="submit" className="button primary">
            {text.user.save}
          </button>
        </form>
      </div>
    </span>
  );
}

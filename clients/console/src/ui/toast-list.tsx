/** Radix' toast: announced, swiped away, reached with F8. */

import { X } from "lucide-react";
import { Toast } from "radix-ui";
import { useStore } from "zustand";
import { text } from "../text.js";
import { news } from "./toasts.js";

export default function ToastList() {
  const list = useStore(news, (held) => held.list);
  return (
    <Toast.Provider duration={6000}>
      {list.map((each) => (
        <Toast.Root
          key={each.id}
          className="toast"
          data-tone={each.bad ? "bad" : "good"}
          onOpenChange={(open) => open || news.setState((held) => ({ list: held.list.filter((other) => other.id !== each.id) }))}
        >
          <Toast.Title className="toast-title">{each.title}</Toast.Title>
          {each.detail ? <Toast.Description className="wrap">{each.detail}</Toast.Description> : null}
          <Toast.Close className="button quiet icon-only" aria-label={text.common.close}>
            <X size={14} aria-hidden />
          </Toast.Close>
        </Toast.Root>
      ))}
      <Toast.Viewport className="toasts" />
    </Toast.Provider>
  );
}

/** A fault of one page does not take the console with it. */

import { Component, createContext, type ReactNode } from "react";
import { text } from "../text.js";
import { Dialog } from "./dialog.js";

/** A part of the console could not be loaded: the network was gone, or the server. Another try may go well. */
export class NotLoaded extends Error {
  override name = "NotLoaded";
}

interface Props {
  children: ReactNode;
  /** Where its children are a dialog, so is what is told of their fault. */
  dialog?: { title: string; onClose: () => void } | undefined;
}

/** Another object with every try of the nearest boundary. */
export const Try = createContext<object>({});

interface State {
  error: Error | null;
  turn: object;
}

export class Boundary extends Component<Props, State> {
  override state: State = { error: null, turn: {} };

  static getDerivedStateFromError(error: Error): Partial<State> {
    return { error };
  }

  readonly again = () => this.setState({ error: null, turn: {} });

  override componentDidUpdate(): void {
    if (this.state.error instanceof NotLoaded) window.addEventListener("online", this.again);
    else window.removeEventListener("online", this.again);
  }

  override componentWillUnmount(): void {
    window.removeEventListener("online", this.again);
  }

  override render(): ReactNode {
    const { error, turn } = this.state;
    const { children, dialog } = this.props;
    if (error === null) return <Try value={turn}>{children}</Try>;
    const told = error instanceof NotLoaded ? <Missing again={this.again} /> : <Fault error={error} />;
    if (!dialog) return <div className="page">{told}</div>;
    return (
      <Dialog open onClose={dialog.onClose} title={dialog.title}>
        {told}
      </Dialog>
    );
  }
}

function Missing({ again }: { again: () => void }) {
  return (
    <div className="notice" data-tone="warn" role="alert">
      <h2>{text.common.notLoaded}</h2>
      <p>{text.common.notLoadedHint}</p>
      <button type="button" className="button" onClick={again}>
        {text.common.retry}
      </button>
    </div>
  );
}

function Fault({ error }: { error: Error }) {
  return (
    <div className="notice" data-tone="bad" role="alert">
      <h1>{text.common.errorTitle}</h1>
      <p>{text.common.errorHint}</p>
      <pre>{error.message}</pre>
      <button type="button" className="button" onClick={() => window.location.reload()}>
        {text.banner.reload}
      </button>
    </div>
  );
}

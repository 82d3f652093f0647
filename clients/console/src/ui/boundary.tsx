/** A fault of one page does not take the console with it. */

import { Component, type ReactNode } from "react";
import { text } from "../text.js";

export class Boundary extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: Error): { error: Error } {
    return { error };
  }

  override render(): ReactNode {
    if (this.state.error === null) return this.props.children;
    return (
      <div className="page">
        <div className="notice" data-tone="bad" role="alert">
          <h1>{text.common.errorTitle}</h1>
          <p>{text.common.errorHint}</p>
          <pre>{this.state.error.message}</pre>
          <button type="button" className="button" onClick={() => window.location.reload()}>
            {text.banner.reload}
          </button>
        </div>
      </div>
    );
  }
}

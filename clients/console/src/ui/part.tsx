/** Parts of the console that are loaded when they are shown. One that cannot be loaded says so in its place. */

import { type ComponentType, lazy, type ReactNode, Suspense, useContext } from "react";
import { Boundary, NotLoaded, Try } from "./boundary.js";

/** React's `lazy`, but what failed to load is loaded anew with another try, or in another place. */
export function part<P extends object>(load: () => Promise<{ default: ComponentType<P> }>): ComponentType<P> {
  let failed = false;
  // Whoever waited for what failed is told so: only others begin anew.
  let waited = new WeakSet<object>();
  const fresh = () =>
    lazy(() =>
      load().catch((error: unknown) => {
        failed = true;
        throw new NotLoaded(String(error), { cause: error });
      }),
    );
  let Loaded = fresh();
  return function Part(props: P) {
    const turn = useContext(Try);
    if (failed && !waited.has(turn)) {
      failed = false;
      waited = new WeakSet();
      Loaded = fresh();
    }
    waited.add(turn);
    return <Loaded {...props} />;
  };
}

/** The place of such a part: what is shown meanwhile, and where its faults end. */
export function Place({ fallback = null, dialog, children }: { fallback?: ReactNode; dialog?: { title: string; onClose: () => void }; children: ReactNode }) {
  return (
    <Boundary dialog={dialog}>
      <Suspense fallback={fallback}>{children}</Suspense>
    </Boundary>
  );
}

/** What came from outside, shown as text: it is never markup, whatever it says. */

import { useState } from "react";
import { text } from "../text.js";
import { part, Place } from "./part.js";
import { CopyButton } from "./parts.js";

const JsonTree = part(() => import("./json-tree.js"));
const SHOWN = 20_000;

/** Any JSON value as text that can be read and copied. */
export function asText(value: unknown): string {
  return typeof value === "string" ? value : (JSON.stringify(value, null, 2) ?? "");
}

export function Json({ value, label, open = true }: { value: unknown; label: string; open?: boolean }) {
  const [raw, setRaw] = useState(false);
  const tree = typeof value === "object" && value !== null;
  const shown = asText(value);
  return (
    <div className="evidence">
      <div className="evidence-bar">
        {tree ? (
          <button type="button" className="button quiet" aria-pressed={raw} onClick={() => setRaw(!raw)}>
            {raw ? text.common.tree : text.common.raw}
          </button>
        ) : null}
        <CopyButton value={shown} />
      </div>
      {tree && !raw ? (
        <Place fallback={<pre>{shown.slice(0, SHOWN)}</pre>}>
          <JsonTree value={value} label={label} open={open} />
        </Place>
      ) : (
        <Raw shown={shown} label={label} />
      )}
    </div>
  );
}

function Raw({ shown, label }: { shown: string; label: string }) {
  const [whole, setWhole] = useState(false);
  const cut = !whole && shown.length > SHOWN;
  return (
    <>
      <pre tabIndex={0} role="region" aria-label={label}>
        {cut ? shown.slice(0, SHOWN) : shown}
      </pre>
      {cut ? (
        <button type="button" className="button quiet" onClick={() => setWhole(true)}>
          {text.common.more}
        </button>
      ) : null}
    </>
  );
}

type Shown = { content_type?: string; body?: unknown; truncated?: boolean } | null | undefined;

/** The exact answer of the outside world. */
export function Evidence({ of }: { of: Shown }) {
  if (!of || of.body === undefined || of.body === null) return <p className="dim">{text.pause.evidenceNone}</p>;
  const reference = isReference(of.body) ? of.body : null;
  const binary = typeof of.body === "string" && /octet-stream|image\/|pdf/.test(of.content_type ?? "");
  return (
    <div>
      {of.content_type ? (
        <p className="dim small">
          {text.pause.contentType}: <code>{of.content_type}</code>
        </p>
      ) : null}
      {binary ? <p>{text.pause.evidenceBinary((of.body as string).length)}</p> : <Json value={reference ? reference.preview : of.body} label={text.pause.evidence} />}
      {of.truncated || reference ? (
        <p className="notice" data-tone="warn">
          {text.pause.evidenceTruncated}{" "}
          {reference ? (
            <a href={reference.$ref} download>
              {text.common.download}
            </a>
          ) : null}
        </p>
      ) : null}
    </div>
  );
}

/** A large value that stands elsewhere. Only addresses of this origin are followed. */
function isReference(body: unknown): body is { $ref: string; preview: unknown } {
  return typeof body === "object" && body !== null && "$ref" in body && /^\/workflows\/[\w-]+\/blobs\/[\w:.-]+$/.test(String(body.$ref));
}

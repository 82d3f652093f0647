/** What goes over the wire, as the server publishes it. */

import { useQuery } from "@tanstack/react-query";
import { useId } from "react";
import { client } from "../live/client.js";
import { setQuery, useAddress } from "../model/router.js";
import { dev } from "../text-dev.js";
import { Json } from "../ui/evidence.js";
import { Failed, Skeleton } from "../ui/parts.js";

const t = dev.schemas;
const DOCUMENTS = ["/openapi.json", "/asyncapi.json", "/schemas"];

export function Schemas() {
  const { query } = useAddress();
  const all = useQuery({ queryKey: ["schemas"], queryFn: async () => ((await client.bench.call("GET", "/schemas")).body as { $defs: Record<string, unknown> }).$defs, staleTime: Number.POSITIVE_INFINITY });
  const id = useId();
  if (all.isPending) return <Skeleton />;
  if (all.isError) return <Failed error={all.error} again={() => void all.refetch()} />;
  const names = Object.keys(all.data).sort();
  const asked = query.get("schema");
  const name = asked !== null && Object.hasOwn(all.data, asked) ? asked : "StartRequest";
  return (
    <div className="stack dev-narrow">
      <p className="dim">{t.hint}</p>
      <div className="field">
        <label htmlFor={id}>{t.which}</label>
        <select id={id} value={name} onChange={(event) => setQuery({ schema: event.target.value })}>
          {names.map((each) => (
            <option key={each}>{each}</option>
          ))}
        </select>
      </div>
      <Json key={name} value={all.data[name]} label={name} />
      <p className="row">
        {t.documents}:
        {DOCUMENTS.map((each) => (
          <a key={each} href={each}>
            {each}
          </a>
        ))}
      </p>
    </div>
  );
}

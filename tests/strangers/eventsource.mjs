// The npm package `eventsource`, as anybody would use it: every event with an id, one JSON line each, until `end`.
import { EventSource } from "eventsource";

const [url, ...types] = process.argv.slice(2);
const source = new EventSource(url);
for (const type of [...types, "snapshot", "reset"]) {
  source.addEventListener(type, (event) => {
    console.log(JSON.stringify({ type, id: event.lastEventId, data: JSON.parse(event.data) }));
  });
}
source.addEventListener("end", () => source.close());
source.addEventListener("error", (error) => console.error(String(error.message ?? error.code ?? "error")));

// AG-UI's own client: starts a workflow by words, runs it to its pause, answers the interrupt, runs it to the end.
import { HttpAgent } from "@ag-ui/client";

const [url, threadId, text, handrail, answer] = process.argv.slice(2);
const agent = new HttpAgent({ url: `${url}/ag-ui`, threadId });
agent.messages = [{ id: "1", role: "user", content: text }];
const told = [];
const subscriber = { onEvent: ({ event }) => void told.push(event) };
await agent.runAgent({ forwardedProps: { handrail: JSON.parse(handrail) } }, subscriber);
const interrupts = told.at(-1).outcome.interrupts;
const paused = structuredClone(agent.state);
const resume = interrupts.map(({ id }) => ({ interruptId: id, status: "resolved", payload: JSON.parse(answer) }));
await agent.runAgent({ resume }, subscriber);
console.log(JSON.stringify({ interrupts, paused, state: agent.state, last: told.at(-1), types: told.map((e) => e.type) }));

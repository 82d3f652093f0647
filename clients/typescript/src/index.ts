/** Start, watch and decide Handrail workflows from browsers and Node.js. No dependencies. */

export { Bench } from "./bench.js";
export { BUNDLE_MEMBERS, type BundleNews, type BundleOptions } from "./bundle.js";
export type { PerCall } from "./calls.js";
export {
  Client,
  type ClientOptions,
  type InboxFilter,
  type Paging,
  type ResumeRequest,
  type StartRequest,
  type WorkflowFilter,
} from "./client.js";
export type { EscalationRequest, FeedbackFilter } from "./desk.js";
export { ClientError, Problem, Unexpected, Unreachable } from "./errors.js";
export type { Closed, Inbox } from "./inbox.js";
export type { components } from "./schema.js";
export { InboxStore, type LiveInbox, type LiveWorkflow, WorkflowStore } from "./stores.js";
export type { Connection, StreamOptions, TicketOrder } from "./stream.js";
export * from "./types.js";
export { Gap, NotAnEvent, WorkflowView } from "./view.js";
export type { SnapshotEvent, Update, WatchOptions } from "./watch.js";

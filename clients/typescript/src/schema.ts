// Written by scripts/generate.mjs from schemas.json, sha256 27a27ed5affbd57392a390d814c665d5a7d49bb70e5260ac97fff715f0f4396c. Do not edit.

export type paths = Record<string, never>;
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /**
         * Accepted
         * @description `202` of `POST /workflows`: it is durable.
         */
        Accepted: {
            links: components["schemas"]["Links"];
            status: components["schemas"]["WorkflowStatus"];
            /** Trace Id */
            trace_id: string;
        } & {
            [key: string]: unknown;
        };
        /**
         * AgentAction
         * @description One action of an agent: its manifest, and its track record. Of the `attempts_ended` that are counted (both are halved at
         *     400, so that the newest weigh most) `attempts_ok` succeeded; `success_rate` is what policies are told, null below 20.
         */
        AgentAction: {
            /** Action */
            action: string;
            /**
             * Attempts Ended
             * @default 0
             */
            attempts_ended?: number;
            /**
             * Attempts Ok
             * @default 0
             */
            attempts_ok?: number;
            /**
             * Success Rate
             * @default null
             */
            success_rate?: number | null;
            /** Version */
            version: string;
        } & {
            [key: string]: unknown;
        };
        /**
         * AgentView
         * @description An agent and its actions. `alive`: seen within the last 15 s by the database clock.
         */
        AgentView: {
            /** Actions */
            actions: components["schemas"]["AgentAction"][];
            /** Alive */
            alive: boolean;
            /** Last Seen */
            last_seen: string;
            /** Name */
            name: string;
        } & {
            [key: string]: unknown;
        };
        /**
         * BlueprintView
         * @description The newest version of a blueprint.
         */
        BlueprintView: {
            /** Defaults */
            defaults: {
                [key: string]: unknown;
            };
            /** Description */
            description: string;
            /** Digest */
            digest: string;
            /** Input Schema */
            input_schema: {
                [key: string]: unknown;
            };
            /** Match */
            match: {
                [key: string]: unknown;
            };
            /** Name */
            name: string;
            /** Nodes */
            nodes: {
                [key: string]: unknown;
            }[];
            /** Title */
            title: string;
            /** Version */
            version: number;
        } & {
            [key: string]: unknown;
        };
        /**
         * Budget
         * @description What one workflow may spend on models: tokens in and out, and US dollars. Once it is used up a person is asked.
         */
        Budget: {
            /**
             * Tokens
             * @default null
             */
            tokens?: number | null;
            /**
             * Usd
             * @default null
             */
            usd?: number | null;
        };
        /**
         * Claimed
         * @description `200` of claim and release.
         */
        Claimed: {
            /** Claimed By */
            claimed_by: string | null;
            /** Claimed Until */
            claimed_until: string | null;
            /** Pause Id */
            pause_id: string;
        } & {
            [key: string]: unknown;
        };
        /**
         * Compensation
         * @description How a node is undone, where it is not simply its action's own compensation.
         */
        Compensation: {
            /**
             * Action
             * @default null
             */
            action?: string | null;
            retry?: components["schemas"]["RetryPolicy"];
            timeouts?: components["schemas"]["Timeouts"];
        };
        /**
         * Condition
         * @description `when`: the node runs only if this holds; else it ends SKIPPED. All given comparisons must hold.
         */
        Condition: {
            /**
             * Eq
             * @default null
             */
            eq?: unknown;
            /**
             * Exists
             * @default null
             */
            exists?: boolean | null;
            /**
             * Ge
             * @default null
             */
            ge?: number | null;
            /**
             * Gt
             * @default null
             */
            gt?: number | null;
            /**
             * In
             * @default null
             */
            in?: unknown[] | null;
            /**
             * Le
             * @default null
             */
            le?: number | null;
            /**
             * Lt
             * @default null
             */
            lt?: number | null;
            /**
             * Ne
             * @default null
             */
            ne?: unknown;
            /** Ref */
            ref: string;
        };
        /**
         * DeadLetterView
         * @description A task that needed, or needs, a person.
         */
        DeadLetterView: {
            /** Agent */
            agent: string | null;
            /** At */
            at: string;
            /**
             * Closed At
             * @default null
             */
            closed_at?: string | null;
            /**
             * Closed By
             * @default null
             */
            closed_by?: string | null;
            /**
             * Closed Channel
             * @default null
             */
            closed_channel?: string | null;
            /** Dead Letter Id */
            dead_letter_id: string;
            /** Error Code */
            error_code: string | null;
            /** Kind */
            kind: string;
            /** Node Id */
            node_id: string | null;
            /** Pause Id */
            pause_id: string | null;
            /** Reason */
            reason: string | null;
            /** State */
            state: string;
            /** Trace Id */
            trace_id: string;
        } & {
            [key: string]: unknown;
        };
        /**
         * Decided
         * @description How a pause was closed, and by whom.
         */
        Decided: {
            /** Action Id */
            action_id: string | null;
            /** Actor */
            actor: string;
            /** Applied */
            applied: boolean;
            /** Channel */
            channel: string;
            /** Comment */
            comment: string | null;
            /** Decided At */
            decided_at: string;
            /**
             * Input
             * @default null
             */
            input?: unknown;
            outcome: components["schemas"]["ResolutionOutcome"];
        } & {
            [key: string]: unknown;
        };
        /**
         * DevRecord
         * @description A record as it lies on its topic, under `handrail up` only. `value` is what it says where that is JSON, else null, and
         *     then `text` has its beginning; `truncated` where either is cut.
         */
        DevRecord: {
            /** At */
            at: string;
            /** Bytes */
            bytes: number;
            /** Headers */
            headers: {
                [key: string]: string;
            };
            /** Key */
            key: string | null;
            /** Offset */
            offset: number;
            /** Partition */
            partition: number;
            /**
             * Text
             * @default null
             */
            text?: string | null;
            /**
             * Truncated
             * @default false
             */
            truncated?: boolean;
            /**
             * Value
             * @default null
             */
            value?: unknown;
        } & {
            [key: string]: unknown;
        };
        /**
         * DevSent
         * @description `202` of `POST /dev/topics/{topic}/records`: it is on the bus.
         */
        DevSent: {
            /** Topic */
            topic: string;
        } & {
            [key: string]: unknown;
        };
        /**
         * DevTopic
         * @description A topic of the bus, under `handrail up` only: what it carries, and how many records it holds.
         */
        DevTopic: {
            /** Key */
            key: string;
            /** Partitions */
            partitions: number;
            /** Payload */
            payload: string[];
            /** Records */
            records: number;
            /** Topic */
            topic: string;
            /** Why */
            why: string;
        } & {
            [key: string]: unknown;
        };
        /**
         * Diff
         * @description What an action changes: names with values, each as it stands, a reference (`{"$from": "nodes.x.output.y"}`, also
         *     `args.<path>`), or a sum of two (`{"$plus": [a, b]}`, `{"$minus": [a, b]}`).
         */
        Diff: {
            /** After */
            after?: {
                [key: string]: unknown;
            };
            /** Before */
            before?: {
                [key: string]: unknown;
            };
        };
        /**
         * EffectClass
         * @description What may be done when it is unknown whether an attempt had its effect; from harmless to dangerous.
         * @enum {string}
         */
        EffectClass: "pure" | "idempotent" | "queryable" | "unsafe";
        /**
         * ErrorInfo
         * @description Why an attempt failed.
         */
        ErrorInfo: {
            /** Code */
            code: string;
            /**
             * Evidence
             * @default null
             */
            evidence?: unknown;
            /** Message */
            message: string;
        };
        /**
         * EscalationOpened
         * @description `202` of `POST /escalations`: it is durable. The ids are final; the inbox shows it a moment later.
         */
        EscalationOpened: {
            /** Pause Id */
            pause_id: string;
            /** Trace Id */
            trace_id: string;
        } & {
            [key: string]: unknown;
        };
        /**
         * EventType
         * @description CONTRACT section 4.
         * @enum {string}
         */
        EventType: "WORKFLOW_ACCEPTED" | "WORKFLOW_PLANNED" | "NODES_ADDED" | "NODE_STATE_CHANGED" | "RESULT_IGNORED" | "TASK_DEAD_LETTERED" | "GATE_EVALUATED" | "WORKFLOW_PAUSED_HITL" | "PAUSE_UPDATED" | "MESSAGE_ADDED" | "HITL_RESOLVED" | "WORKFLOW_RESUMED" | "WORKFLOW_COMPENSATING" | "WORKFLOW_COMPLETED" | "WORKFLOW_COMPENSATED" | "WORKFLOW_COMPENSATION_INCOMPLETE" | "WORKFLOW_FAILED" | "WORKFLOW_CANCELLED";
        /**
         * Evidence
         * @description What the outside world said, as text to be shown, never as markup to be rendered.
         */
        Evidence: {
            /**
             * Body
             * @default null
             */
            body?: unknown;
            /**
             * Content Type
             * @default application/json
             */
            content_type?: string;
            /**
             * Truncated
             * @default false
             */
            truncated?: boolean;
        };
        /**
         * Expiry
         * @description A pause's deadline and what the system presses when it passes. Silence is never approval unless this says so.
         */
        Expiry: {
            /** Action Id */
            action_id: string;
            /** After S */
            after_s: number;
            /**
             * Input
             * @default null
             */
            input?: unknown;
        };
        /**
         * Feedback
         * @description One line of `GET /feedback.jsonl`. `final` is what was executed, null when rejected; `patch` is RFC 6902; `input` is what
         *     the button was given: a reply, another vendor, edited arguments. What is marked to be left out stands as `[redacted]`.
         */
        Feedback: {
            /**
             * Action
             * @default null
             */
            action?: string | null;
            /** Actor */
            actor: string;
            /**
             * Agent
             * @default null
             */
            agent?: string | null;
            /**
             * Blueprint
             * @default null
             */
            blueprint?: string | null;
            /** Channel */
            channel: string;
            /** Comment */
            comment: string | null;
            /**
             * Decided At
             * @default null
             */
            decided_at?: string | null;
            /** Decision Id */
            decision_id: string;
            /**
             * Final
             * @default null
             */
            final?: unknown;
            /**
             * Input
             * @default null
             */
            input?: unknown;
            /** Kind */
            kind: string;
            /** Later */
            later: {
                [key: string]: unknown;
            };
            /**
             * Node Id
             * @default null
             */
            node_id?: string | null;
            /** Outcome */
            outcome: string;
            /** Patch */
            patch: {
                [key: string]: unknown;
            }[];
            /** Pause Id */
            pause_id: string;
            /** Policy */
            policy: {
                [key: string]: unknown;
            } | null;
            /**
             * Proposed
             * @default null
             */
            proposed?: unknown;
            /** Trace Id */
            trace_id: string;
            /** Waited S */
            waited_s: number;
        } & {
            [key: string]: unknown;
        };
        /**
         * FieldProblem
         * @description One fault in a body: a JSON pointer (RFC 6901), a short code, one sentence.
         */
        FieldProblem: {
            /** Code */
            code: string;
            /** Message */
            message: string;
            /** Pointer */
            pointer: string;
        };
        /**
         * Gate
         * @description Approval on the plan: this node waits for a person when the policy says so, or always.
         *
         *     `on_reject` is what a refusal does: `skip` the node, `fail` or `compensate` the workflow, or take the other `branch`: of what
         *     depends on the node only nodes with a condition go on. `summary` is the sentence that a person reads, with `{name}` and
         *     `{name:.2f}` for arguments. `affected`: how many things it touches, a number or `args.<path>` (a list counts its items).
         *     `four_eyes`: who started the workflow may not approve. `redact`: arguments (`args.<path>`) that are left out of exports.
         */
        Gate: {
            /**
             * Affected
             * @default null
             */
            affected?: number | string | null;
            /**
             * Decide
             * @default policy
             * @enum {string}
             */
            decide?: "always" | "policy";
            /** @default null */
            diff?: components["schemas"]["Diff"] | null;
            /**
             * Domain
             * @default null
             */
            domain?: string | null;
            /**
             * Four Eyes
             * @default false
             */
            four_eyes?: boolean;
            /**
             * On Reject
             * @default skip
             * @enum {string}
             */
            on_reject?: "skip" | "fail" | "compensate" | "branch";
            /** Redact */
            redact?: string[];
            /**
             * Summary
             * @default null
             */
            summary?: string | null;
        };
        /**
         * GateEvaluated
         * @description A policy looked at a node, also when it let it pass. `rule_id` null: no rule spoke; `policy` null with a rule: one of our
         *     own (a gate that always asks, content from outside). `inputs` are the facts.
         */
        GateEvaluated: {
            /** At */
            at: string;
            /** Decide */
            decide: string;
            event_type: components["schemas"]["EventType"];
            /**
             * Inputs
             * @default null
             */
            inputs?: {
                [key: string]: unknown;
            } | null;
            /** Node Id */
            node_id: string;
            /**
             * Policy
             * @default null
             */
            policy?: string | null;
            /** Policy Version */
            policy_version: number;
            /**
             * Reason
             * @default null
             */
            reason?: string | null;
            /** Rule Id */
            rule_id: string | null;
            /** Score */
            score: number | null;
            /** Seq */
            seq: number;
            /** Trace Id */
            trace_id: string;
        };
        /**
         * HitlResolved
         * @description A pause was closed. `actor` is a person, `system:timeout` or `system`.
         */
        HitlResolved: {
            /** Action Id */
            action_id: string | null;
            /** Actor */
            actor: string;
            /** At */
            at: string;
            /** Channel */
            channel: string;
            /** Comment */
            comment: string | null;
            event_type: components["schemas"]["EventType"];
            /** Input */
            input: unknown;
            /**
             * Node Id
             * @default null
             */
            node_id?: string | null;
            outcome: components["schemas"]["ResolutionOutcome"];
            /** Pause Id */
            pause_id: string;
            /** Seq */
            seq: number;
            /** Trace Id */
            trace_id: string;
        };
        /**
         * InboxPause
         * @description A pause over all workflows: its payload, how it stands, and of which workflow.
         */
        InboxPause: {
            /** Assignees */
            assignees?: string[];
            /** At */
            at: string;
            /** Attempts */
            attempts?: {
                [key: string]: unknown;
            }[];
            /** Available Resolutions */
            available_resolutions: {
                [key: string]: unknown;
            }[];
            /**
             * Claimed By
             * @default null
             */
            claimed_by?: string | null;
            /**
             * Claimed Until
             * @default null
             */
            claimed_until?: string | null;
            /** Closed At */
            closed_at: string | null;
            /**
             * Confidence
             * @default null
             */
            confidence?: number | null;
            /** Context Snapshot */
            context_snapshot: {
                [key: string]: unknown;
            };
            decision: components["schemas"]["Decided"] | null;
            /**
             * Event Type
             * @default WORKFLOW_PAUSED_HITL
             */
            event_type?: string;
            /** Evidence Digest */
            evidence_digest: string | null;
            /**
             * Expires At
             * @default null
             */
            expires_at?: string | null;
            /** Failed Agent */
            failed_agent: string | null;
            /** Failure Reason */
            failure_reason: string;
            kind: components["schemas"]["PauseKind"];
            /** Node Id */
            node_id: string | null;
            /**
             * On Expiry
             * @default null
             */
            on_expiry?: string | null;
            /** Pause Id */
            pause_id: string;
            /**
             * Proposed Action
             * @default null
             */
            proposed_action?: {
                [key: string]: unknown;
            } | null;
            raw_evidence: components["schemas"]["Evidence"] | null;
            /**
             * Risk
             * @default null
             */
            risk?: {
                [key: string]: unknown;
            } | null;
            /** Seq */
            seq: number;
            /** State */
            state: string;
            /**
             * Summary
             * @default null
             */
            summary?: string | null;
            /** Trace Id */
            trace_id: string;
            /**
             * Transcript
             * @default null
             */
            transcript?: {
                [key: string]: unknown;
            }[] | null;
            /** Workflow */
            workflow: {
                [key: string]: unknown;
            };
        } & {
            [key: string]: unknown;
        };
        /**
         * Links
         * @description Where a workflow is seen.
         */
        Links: {
            /** Console */
            console: string;
            /** Events */
            events: string;
            /** State */
            state: string;
        } & {
            [key: string]: unknown;
        };
        /**
         * MessageAdded
         * @description Somebody spoke in an escalation's conversation: operator, user, agent, or the system for the hand-over sentence.
         *     `withheld`: an agent spoke while a person had the conversation; it is written down and goes to nobody.
         */
        MessageAdded: {
            /**
             * Actor
             * @default null
             */
            actor?: string | null;
            /** At */
            at: string;
            event_type: components["schemas"]["EventType"];
            /** Pause Id */
            pause_id: string;
            /** Role */
            role: string;
            /** Seq */
            seq: number;
            /** Text */
            text: string;
            /** Trace Id */
            trace_id: string;
            /**
             * Withheld
             * @default null
             */
            withheld?: boolean | null;
        };
        /**
         * Node
         * @description One node of a plan: who does what, after whom, and what is to happen when it goes wrong. `untrusted`: what it answers
         *     holds content from outside, so that a node with side effects that comes after it asks a person first.
         */
        Node: {
            /** Action */
            action: string;
            /** Agent */
            agent: string;
            /**
             * Compensation
             * @default null
             */
            compensation?: components["schemas"]["Compensation"] | "none" | null;
            /** Context */
            context?: {
                [key: string]: string;
            };
            /** Depends On */
            depends_on?: string[];
            /** @default null */
            effect_class?: components["schemas"]["EffectClass"] | null;
            /** @default null */
            expiry?: components["schemas"]["Expiry"] | null;
            /** @default null */
            gate?: components["schemas"]["Gate"] | null;
            /** Id */
            id: string;
            /** Inputs */
            inputs?: {
                [key: string]: unknown;
            };
            /**
             * Irreversible
             * @default false
             */
            irreversible?: boolean;
            /**
             * May Add Nodes
             * @default 0
             */
            may_add_nodes?: number;
            /** @default pause */
            on_exhausted?: components["schemas"]["OnExhausted"];
            /**
             * Optional
             * @default false
             */
            optional?: boolean;
            /**
             * Output Schema
             * @default null
             */
            output_schema?: {
                [key: string]: unknown;
            } | null;
            /** @default null */
            pause_scope?: components["schemas"]["PauseScope"] | null;
            /**
             * Resolutions
             * @default null
             */
            resolutions?: components["schemas"]["Resolution"][] | null;
            /** @default null */
            retry?: components["schemas"]["RetryPolicy"] | null;
            /**
             * Savepoint
             * @default false
             */
            savepoint?: boolean;
            /** @default null */
            timeouts?: components["schemas"]["Timeouts"] | null;
            /**
             * Untrusted
             * @default false
             */
            untrusted?: boolean;
            /** @default null */
            when?: components["schemas"]["Condition"] | null;
        };
        /**
         * NodeChange
         * @description What a button would do to one node.
         */
        NodeChange: {
            from: components["schemas"]["NodeStatus"];
            /** Node Id */
            node_id: string;
            to: components["schemas"]["NodeStatus"];
        } & {
            [key: string]: unknown;
        };
        /**
         * NodeInputs
         * @description What a node works with. References are resolved; one whose source has not ended yet stands as it is written, and its
         *     text in `unresolved`. `overridden`: names that a person set. `edited`: a person approved other arguments than proposed.
         */
        NodeInputs: {
            /** Action */
            action: string;
            /** Agent */
            agent: string;
            /** Edited */
            edited: boolean;
            /** Effect Class */
            effect_class: string;
            /** Inputs */
            inputs: {
                [key: string]: unknown;
            };
            /** Node Id */
            node_id: string;
            /** Overridden */
            overridden: string[];
            /** Trace Id */
            trace_id: string;
            /** Unresolved */
            unresolved: string[];
        } & {
            [key: string]: unknown;
        };
        /**
         * NodesAdded
         * @description More nodes: the rest of a large plan (`by` null), or nodes that an agent appended (`by` its node).
         */
        NodesAdded: {
            /** At */
            at: string;
            /**
             * By
             * @default null
             */
            by?: string | null;
            event_type: components["schemas"]["EventType"];
            /** Nodes */
            nodes: components["schemas"]["NodeSummary"][];
            /** Seq */
            seq: number;
            /** Trace Id */
            trace_id: string;
        };
        /**
         * NodeStateChanged
         * @description A node moved. In the states of an undo `attempt` counts undo attempts.
         */
        NodeStateChanged: {
            /** At */
            at: string;
            /** Attempt */
            attempt: number;
            /** @default null */
            error?: components["schemas"]["ErrorInfo"] | null;
            event_type: components["schemas"]["EventType"];
            /**
             * Finished At
             * @default null
             */
            finished_at?: string | null;
            from: components["schemas"]["NodeStatus"];
            /**
             * Max Attempts
             * @default null
             */
            max_attempts?: number | null;
            /** Node Id */
            node_id: string;
            /**
             * Output
             * @default null
             */
            output?: unknown;
            /**
             * Reason
             * @default null
             */
            reason?: string | null;
            /**
             * Retry At
             * @default null
             */
            retry_at?: string | null;
            /** Seq */
            seq: number;
            /**
             * Started At
             * @default null
             */
            started_at?: string | null;
            to: components["schemas"]["NodeStatus"];
            /** Trace Id */
            trace_id: string;
            /**
             * Usage
             * @default null
             */
            usage?: {
                [key: string]: unknown;
            } | null;
            /**
             * Worker
             * @default null
             */
            worker?: string | null;
        };
        /**
         * NodeStatus
         * @description CONTRACT section 3, node state.
         * @enum {string}
         */
        NodeStatus: "PENDING" | "SCHEDULED" | "IN_PROGRESS" | "RETRYING" | "AWAITING_HUMAN" | "COMPLETE" | "DEAD_LETTERED" | "SKIPPED" | "CANCELLED" | "COMPENSATING" | "COMPENSATED" | "COMPENSATION_FAILED" | "NOT_REVERSIBLE" | "NOTHING_TO_UNDO";
        /**
         * NodeSummary
         * @description A node as it enters the view.
         */
        NodeSummary: {
            /** Action */
            action: string;
            /** Agent */
            agent: string;
            /** Attempt */
            attempt: number;
            /** Depends On */
            depends_on: string[];
            /** Id */
            id: string;
            /** Max Attempts */
            max_attempts: number;
            state: components["schemas"]["NodeStatus"];
        };
        /**
         * NodeView
         * @description A node of the state. `error` is that of its last failed attempt.
         */
        NodeView: {
            /** Action */
            action: string;
            /** Agent */
            agent: string;
            /** Attempt */
            attempt: number;
            /** Depends On */
            depends_on: string[];
            /** @default null */
            error?: components["schemas"]["ErrorInfo"] | null;
            /** Finished At */
            finished_at: string | null;
            /** Id */
            id: string;
            /** Max Attempts */
            max_attempts: number;
            /**
             * Output
             * @default null
             */
            output?: unknown;
            /** Started At */
            started_at: string | null;
            state: components["schemas"]["NodeStatus"];
        } & {
            [key: string]: unknown;
        };
        /**
         * OnExhausted
         * @description What follows when a node's attempts are used up.
         * @enum {string}
         */
        OnExhausted: "pause" | "compensate" | "skip" | "fail";
        /**
         * Ordered
         * @description `202` of pause, cancel and messages: stored, will be applied.
         */
        Ordered: {
            /** Status */
            status: string;
            /** Trace Id */
            trace_id: string;
        } & {
            [key: string]: unknown;
        };
        /**
         * Pause
         * @description The payload of `WORKFLOW_PAUSED_HITL`, of the inbox and of the state's open pauses.
         */
        Pause: {
            /** Assignees */
            assignees?: string[];
            /** At */
            at: string;
            /** Attempts */
            attempts?: {
                [key: string]: unknown;
            }[];
            /** Available Resolutions */
            available_resolutions: {
                [key: string]: unknown;
            }[];
            /**
             * Claimed By
             * @default null
             */
            claimed_by?: string | null;
            /**
             * Claimed Until
             * @default null
             */
            claimed_until?: string | null;
            /**
             * Confidence
             * @default null
             */
            confidence?: number | null;
            /** Context Snapshot */
            context_snapshot: {
                [key: string]: unknown;
            };
            /**
             * Event Type
             * @default WORKFLOW_PAUSED_HITL
             */
            event_type?: string;
            /** Evidence Digest */
            evidence_digest: string | null;
            /**
             * Expires At
             * @default null
             */
            expires_at?: string | null;
            /** Failed Agent */
            failed_agent: string | null;
            /** Failure Reason */
            failure_reason: string;
            kind: components["schemas"]["PauseKind"];
            /** Node Id */
            node_id: string | null;
            /**
             * On Expiry
             * @default null
             */
            on_expiry?: string | null;
            /** Pause Id */
            pause_id: string;
            /**
             * Proposed Action
             * @default null
             */
            proposed_action?: {
                [key: string]: unknown;
            } | null;
            raw_evidence: components["schemas"]["Evidence"] | null;
            /**
             * Risk
             * @default null
             */
            risk?: {
                [key: string]: unknown;
            } | null;
            /** Seq */
            seq: number;
            /**
             * Summary
             * @default null
             */
            summary?: string | null;
            /** Trace Id */
            trace_id: string;
            /**
             * Transcript
             * @default null
             */
            transcript?: {
                [key: string]: unknown;
            }[] | null;
        };
        /**
         * PausedHitl
         * @description A person is needed.
         */
        PausedHitl: {
            /** Assignees */
            assignees?: string[];
            /** At */
            at: string;
            /** Attempts */
            attempts?: {
                [key: string]: unknown;
            }[];
            /** Available Resolutions */
            available_resolutions: {
                [key: string]: unknown;
            }[];
            /**
             * Claimed By
             * @default null
             */
            claimed_by?: string | null;
            /**
             * Claimed Until
             * @default null
             */
            claimed_until?: string | null;
            /**
             * Confidence
             * @default null
             */
            confidence?: number | null;
            /** Context Snapshot */
            context_snapshot: {
                [key: string]: unknown;
            };
            event_type: components["schemas"]["EventType"];
            /** Evidence Digest */
            evidence_digest: string | null;
            /**
             * Expires At
             * @default null
             */
            expires_at?: string | null;
            /** Failed Agent */
            failed_agent: string | null;
            /** Failure Reason */
            failure_reason: string;
            kind: components["schemas"]["PauseKind"];
            /** Node Id */
            node_id: string | null;
            /**
             * On Expiry
             * @default null
             */
            on_expiry?: string | null;
            /** Pause Id */
            pause_id: string;
            /**
             * Proposed Action
             * @default null
             */
            proposed_action?: {
                [key: string]: unknown;
            } | null;
            raw_evidence: components["schemas"]["Evidence"] | null;
            /**
             * Risk
             * @default null
             */
            risk?: {
                [key: string]: unknown;
            } | null;
            /** Seq */
            seq: number;
            /**
             * Summary
             * @default null
             */
            summary?: string | null;
            /** Trace Id */
            trace_id: string;
            /**
             * Transcript
             * @default null
             */
            transcript?: {
                [key: string]: unknown;
            }[] | null;
        };
        /**
         * PauseKind
         * @description By which door the pause was opened.
         * @enum {string}
         */
        PauseKind: "failure" | "gate" | "escalation" | "compensation_failure" | "ambiguous" | "manual";
        /**
         * PauseScope
         * @description What else waits while a pause of this node is open: everything, or only what depends on the node.
         * @enum {string}
         */
        PauseScope: "workflow" | "branch";
        /**
         * PauseUpdated
         * @description Claimed, released or reminded.
         */
        PauseUpdated: {
            /** At */
            at: string;
            /**
             * Claimed By
             * @default null
             */
            claimed_by?: string | null;
            /**
             * Claimed Until
             * @default null
             */
            claimed_until?: string | null;
            event_type: components["schemas"]["EventType"];
            /** Pause Id */
            pause_id: string;
            /**
             * Reminded At
             * @default null
             */
            reminded_at?: string | null;
            /** Seq */
            seq: number;
            /** Trace Id */
            trace_id: string;
        };
        /**
         * Plan
         * @description A DAG of nodes. `output` maps names to references; without it the outputs of the sinks stand under their node ids.
         *     `budget`: what the workflow may spend on models.
         */
        Plan: {
            /** @default null */
            budget?: components["schemas"]["Budget"] | null;
            /** Nodes */
            nodes: components["schemas"]["Node"][];
            /**
             * Output
             * @default null
             */
            output?: {
                [key: string]: unknown;
            } | null;
        };
        /**
         * PolicyView
         * @description One version of a policy, and who has applied it. `rules` as they were written.
         */
        PolicyView: {
            /** Actor */
            actor: string;
            /** Applied At */
            applied_at: string;
            /** Blueprint */
            blueprint: string | null;
            /**
             * Budget
             * @default null
             */
            budget?: {
                [key: string]: number | null;
            } | null;
            /** Channel */
            channel: string;
            /** Comment */
            comment: string | null;
            /** Description */
            description: string;
            /** Digest */
            digest: string;
            /** Name */
            name: string;
            /** Redact */
            redact: string[];
            /** Rules */
            rules: {
                [key: string]: unknown;
            }[];
            /** Title */
            title: string;
            /** Version */
            version: number;
        } & {
            [key: string]: unknown;
        };
        /**
         * Preview
         * @description What a button or an order would do, only what changes. `skipped`: every node that could not run any more, at once or
         *     later. `under_way`: nodes with an attempt that is out and goes on until it answers (an abort tells it to stop).
         *     `standing`: nodes whose effect would stay although they are rolled back.
         */
        Preview: {
            /** Action Id */
            action_id: string;
            /** Nodes */
            nodes: components["schemas"]["NodeChange"][];
            /** Skipped */
            skipped?: string[];
            /** Standing */
            standing?: string[];
            status_after: components["schemas"]["WorkflowStatus"];
            /** Under Way */
            under_way?: string[];
            /** Undo */
            undo: string[];
        } & {
            [key: string]: unknown;
        };
        /**
         * Problem
         * @description `application/problem+json`. `detail` says what was expected, what was found, what to do.
         */
        Problem: {
            /** Detail */
            detail: string;
            /**
             * Errors
             * @default null
             */
            errors?: components["schemas"]["FieldProblem"][] | null;
            /**
             * Instance
             * @default null
             */
            instance?: string | null;
            /**
             * Retry After
             * @description seconds
             * @default null
             */
            retry_after?: number | null;
            /** Status */
            status: number;
            /** Title */
            title: string;
            /**
             * Trace Id
             * @default null
             */
            trace_id?: string | null;
            /** Type */
            type: string;
        } & {
            [key: string]: unknown;
        };
        /**
         * Progress
         * @description News from inside an attempt; shown, never journaled. `percent` 0 to 100.
         */
        Progress: {
            /**
             * At
             * @default null
             */
            at?: string | null;
            /** Attempt */
            attempt: number;
            /**
             * Message
             * @default null
             */
            message?: string | null;
            /** Node Id */
            node_id: string;
            /**
             * Percent
             * @default null
             */
            percent?: number | null;
            /**
             * Tenant
             * @default default
             */
            tenant?: string;
            /** Trace Id */
            trace_id: string;
        };
        /**
         * QuarantineView
         * @description A record that was set aside. `value` and `key` are base64, null where the record had none; a list shows the first 64 KiB
         *     of a value (`truncated`), the record by itself shows it whole.
         */
        QuarantineView: {
            /** At */
            at: string;
            /**
             * Bytes
             * @default null
             */
            bytes?: number | null;
            /** Id */
            id: number;
            /** Key */
            key: string | null;
            /** Kind */
            kind: string;
            /** Offset */
            offset: number;
            /** Partition */
            partition: number;
            /** Reason */
            reason: string;
            /** State */
            state: string;
            /** Topic */
            topic: string;
            /** Trace Id */
            trace_id: string | null;
            /**
             * Truncated
             * @default false
             */
            truncated?: boolean;
            /** Value */
            value: string | null;
        } & {
            [key: string]: unknown;
        };
        /**
         * Resolution
         * @description One button of a pause, declared by people, never by a model. `sets` names the input that a retry's value replaces;
         *     `outcome` refines `mark`: happened, not_happened, undone; `scope` refines `compensate`: everything (default), back to
         *     the nearest savepoint before the node and on again from there, or the node's subtree, without which the rest goes on.
         */
        Resolution: {
            /** Action Id */
            action_id: string;
            /** Display Text */
            display_text: string;
            /**
             * Input Schema
             * @default null
             */
            input_schema?: ("url" | "email" | "text" | "number" | "integer" | "boolean" | "date" | "json") | {
                [key: string]: unknown;
            } | null;
            kind: components["schemas"]["ResolutionKind"];
            /**
             * Outcome
             * @default null
             */
            outcome?: ("happened" | "not_happened" | "undone") | null;
            /**
             * Requires Input
             * @default false
             */
            requires_input?: boolean;
            /**
             * Scope
             * @default null
             */
            scope?: ("workflow" | "savepoint" | "subtree") | null;
            /**
             * Sets
             * @default null
             */
            sets?: string | null;
            /**
             * Style
             * @default neutral
             * @enum {string}
             */
            style?: "primary" | "neutral" | "danger";
        };
        /**
         * ResolutionKind
         * @description What a button does: CONTRACT section 5.
         * @enum {string}
         */
        ResolutionKind: "retry" | "skip" | "compensate" | "approve" | "edit" | "reject" | "respond" | "close" | "hand_back" | "mark" | "accept" | "stop" | "resume";
        /**
         * ResolutionOutcome
         * @description How a pause was closed.
         * @enum {string}
         */
        ResolutionOutcome: "decided" | "expired" | "superseded" | "cancelled";
        /**
         * ResultIgnored
         * @description An answer that changes nothing.
         */
        ResultIgnored: {
            /** At */
            at: string;
            /** Attempt */
            attempt: number;
            event_type: components["schemas"]["EventType"];
            /** Node Id */
            node_id: string;
            /** Reason */
            reason: string;
            /** Seq */
            seq: number;
            /** Trace Id */
            trace_id: string;
        };
        /**
         * ResumeRequest
         * @description `POST /workflows/{trace_id}/resume`: what a person pressed.
         */
        ResumeRequest: {
            /** Action Id */
            action_id: string;
            /**
             * Comment
             * @default null
             */
            comment?: string | null;
            /**
             * Evidence Digest
             * @default null
             */
            evidence_digest?: string | null;
            /**
             * Input
             * @default null
             */
            input?: unknown;
            /**
             * Override Claim
             * @default false
             */
            override_claim?: boolean;
            /**
             * Pause Id
             * @default null
             */
            pause_id?: string | null;
        };
        /**
         * Resuming
         * @description `202` of resume; with `resolved_by` the `200` of the same decision again.
         */
        Resuming: {
            /** Action Id */
            action_id: string;
            /** Pause Id */
            pause_id: string;
            /**
             * Resolved By
             * @default null
             */
            resolved_by?: string | null;
            /**
             * Status
             * @default RESUMING
             */
            status?: string;
            /** Trace Id */
            trace_id: string;
        } & {
            [key: string]: unknown;
        };
        /**
         * RetryPolicy
         * @description How often and how soon an attempt is repeated. Seconds throughout. Jitter is a hash, so a replay waits the same.
         */
        RetryPolicy: {
            /**
             * Backoff
             * @default exponential
             * @enum {string}
             */
            backoff?: "fixed" | "linear" | "exponential";
            /**
             * Initial Delay S
             * @default 1
             */
            initial_delay_s?: number;
            /**
             * Jitter
             * @default full
             * @enum {string}
             */
            jitter?: "full" | "none";
            /**
             * Max Attempts
             * @default 3
             */
            max_attempts?: number;
            /**
             * Max Delay S
             * @default 60
             */
            max_delay_s?: number;
            /**
             * Multiplier
             * @default 2
             */
            multiplier?: number;
            /** Non Retryable Errors */
            non_retryable_errors?: string[];
            /**
             * Total Timeout S
             * @default null
             */
            total_timeout_s?: number | null;
        };
        /**
         * Simulated
         * @description What a candidate policy would have asked of people. `slipped`: rejected actions that nobody would have seen; `unedited`:
         *     those that a person has corrected; `forbidden`: approved ones that would have been forbidden.
         */
        Simulated: {
            /** Decisions */
            decisions: number;
            /** Forbidden */
            forbidden: {
                [key: string]: unknown;
            }[];
            /** Interruptions */
            interruptions: {
                [key: string]: unknown;
            };
            /** Policy */
            policy: {
                [key: string]: unknown;
            };
            /** Slipped */
            slipped: {
                [key: string]: unknown;
            }[];
            /** Spared */
            spared: {
                [key: string]: number;
            };
            /** Unedited */
            unedited: {
                [key: string]: unknown;
            }[];
            /** Waited S Spared */
            waited_s_spared: number;
        } & {
            [key: string]: unknown;
        };
        /**
         * SseTicket
         * @description `POST /sse-tickets`: opens the stream at `url` once, within `expires_in_s`.
         */
        SseTicket: {
            /** Expires In S */
            expires_in_s: number;
            /** Ticket */
            ticket: string;
            /** Url */
            url: string;
        } & {
            [key: string]: unknown;
        };
        /**
         * SseTicketRequest
         * @description `POST /sse-tickets`: for exactly one of the streams, that of a workflow, of the inbox, or of `/events`. `started` asks
         *     `/events` for what is accepted as well, alone or beside trace_ids or a label.
         */
        SseTicketRequest: {
            /**
             * Inbox
             * @default null
             */
            inbox?: true | null;
            /**
             * Label
             * @default null
             */
            label?: string | null;
            /**
             * Started
             * @default null
             */
            started?: true | null;
            /**
             * Trace Id
             * @default null
             */
            trace_id?: string | null;
            /**
             * Trace Ids
             * @default null
             */
            trace_ids?: string[] | null;
        };
        /**
         * StartRequest
         * @description `POST /workflows`: at least one of intent, blueprint, plan; a plan goes without a blueprint.
         */
        StartRequest: {
            /**
             * Blueprint
             * @default null
             */
            blueprint?: string | null;
            /**
             * Deadline S
             * @default null
             */
            deadline_s?: number | null;
            /** Input */
            input?: {
                [key: string]: unknown;
            };
            /**
             * Intent
             * @default null
             */
            intent?: string | null;
            /** Labels */
            labels?: {
                [key: string]: string;
            };
            /** @default null */
            plan?: components["schemas"]["Plan"] | null;
            /**
             * Trace Id
             * @default null
             */
            trace_id?: string | null;
        };
        /**
         * State
         * @description `GET /workflows/{trace_id}/state`. `history` stands only where it was asked for.
         */
        State: {
            /** Blueprint */
            blueprint: string | null;
            /** Created At */
            created_at: string | null;
            /** Cursor */
            cursor: string;
            /**
             * History
             * @default null
             */
            history?: {
                [key: string]: unknown;
            }[] | null;
            /**
             * History Next
             * @default null
             */
            history_next?: string | null;
            /**
             * History Truncated
             * @default null
             */
            history_truncated?: boolean | null;
            /** Input */
            input: {
                [key: string]: unknown;
            };
            /** Intent */
            intent: string | null;
            /** Labels */
            labels: {
                [key: string]: string;
            };
            /** Nodes */
            nodes: components["schemas"]["NodeView"][];
            /**
             * Output
             * @default null
             */
            output?: unknown;
            /** Pauses */
            pauses: components["schemas"]["Pause"][];
            /** Reason */
            reason: string | null;
            status: components["schemas"]["WorkflowStatus"];
            /** Trace Id */
            trace_id: string;
            /** Updated At */
            updated_at: string | null;
        } & {
            [key: string]: unknown;
        };
        /**
         * Suggestion
         * @description An exemption that people's decisions speak for. `candidate` is the policy with it, to be looked at and applied.
         */
        Suggestion: {
            /** Action */
            action: string;
            /** Agent */
            agent: string;
            /** Approvals */
            approvals: number;
            /** Candidate */
            candidate: {
                [key: string]: unknown;
            };
            /** Exemption */
            exemption: {
                [key: string]: unknown;
            };
            /** People */
            people: number;
            /** Policy */
            policy: string;
            /** Rule Id */
            rule_id: string;
        } & {
            [key: string]: unknown;
        };
        /**
         * TaskDeadLettered
         * @description Attempts are used up, or must not go on.
         */
        TaskDeadLettered: {
            /** At */
            at: string;
            /** Attempts */
            attempts: {
                [key: string]: unknown;
            }[];
            /** Dead Letter Id */
            dead_letter_id: string;
            event_type: components["schemas"]["EventType"];
            /** Node Id */
            node_id: string;
            /** Seq */
            seq: number;
            /** Trace Id */
            trace_id: string;
        };
        /**
         * Timeouts
         * @description Limits of one node, in seconds. `schedule_to_start_s`: unclaimed for so long while its agent claims nothing at all.
         */
        Timeouts: {
            /**
             * Lease S
             * @default 5
             */
            lease_s?: number;
            /**
             * Schedule To Start S
             * @default 60
             */
            schedule_to_start_s?: number;
            /**
             * Start To Close S
             * @default 300
             */
            start_to_close_s?: number;
        };
        /**
         * UndoNode
         * @description One undo: it starts when the undos that it depends on have ended.
         */
        UndoNode: {
            /** Depends On */
            depends_on: string[];
            /** Node Id */
            node_id: string;
        };
        /**
         * WorkflowAccepted
         * @description The workflow exists. `status` is PLANNING where a planner agent is to make the plan.
         */
        WorkflowAccepted: {
            /** At */
            at: string;
            /** Blueprint */
            blueprint: string | null;
            /**
             * Deadline At
             * @default null
             */
            deadline_at?: string | null;
            event_type: components["schemas"]["EventType"];
            /** Input */
            input: {
                [key: string]: unknown;
            };
            /** Intent */
            intent: string | null;
            /** Labels */
            labels: {
                [key: string]: string;
            };
            /** Seq */
            seq: number;
            status: components["schemas"]["WorkflowStatus"];
            /** Trace Id */
            trace_id: string;
        };
        /**
         * WorkflowCompensating
         * @description The rollback begins. `nodes` in reverse order of completion.
         */
        WorkflowCompensating: {
            /** At */
            at: string;
            event_type: components["schemas"]["EventType"];
            /** Nodes */
            nodes: components["schemas"]["UndoNode"][];
            /**
             * Reason
             * @default null
             */
            reason?: string | null;
            /** Scope */
            scope: string;
            /** Seq */
            seq: number;
            /** Trace Id */
            trace_id: string;
        };
        /**
         * WorkflowEnded
         * @description The end: nothing follows.
         */
        WorkflowEnded: {
            /** At */
            at: string;
            event_type: components["schemas"]["EventType"];
            /** Output */
            output: unknown;
            /** Reason */
            reason: string | null;
            /** Seq */
            seq: number;
            status: components["schemas"]["WorkflowStatus"];
            /** Totals */
            totals: {
                [key: string]: number;
            };
            /** Trace Id */
            trace_id: string;
        };
        /**
         * WorkflowPlanned
         * @description The DAG. The first 200 nodes; the rest follow as NODES_ADDED before any dispatch.
         */
        WorkflowPlanned: {
            /** At */
            at: string;
            /** Edge Count */
            edge_count: number;
            event_type: components["schemas"]["EventType"];
            /** Node Count */
            node_count: number;
            /** Nodes */
            nodes: components["schemas"]["NodeSummary"][];
            /** Plan Digest */
            plan_digest: string;
            /** Seq */
            seq: number;
            /** Trace Id */
            trace_id: string;
        };
        /**
         * WorkflowResumed
         * @description The last open pause closed and the workflow goes on, in `status`.
         */
        WorkflowResumed: {
            /** At */
            at: string;
            event_type: components["schemas"]["EventType"];
            /** Seq */
            seq: number;
            status: components["schemas"]["WorkflowStatus"];
            /** Trace Id */
            trace_id: string;
        };
        /**
         * WorkflowStatus
         * @description CONTRACT section 3. The last six are ends: after them nothing is appended.
         * @enum {string}
         */
        WorkflowStatus: "ACCEPTED" | "PLANNING" | "RUNNING" | "PAUSED_HITL" | "COMPENSATING" | "COMPLETED" | "COMPLETED_WITH_SKIPS" | "COMPENSATED" | "COMPENSATION_INCOMPLETE" | "FAILED" | "CANCELLED";
        /**
         * WorkflowSummary
         * @description A workflow in a list. `counts`: node state -> how many; `parked_reason`: why the rules cannot go on with it.
         */
        WorkflowSummary: {
            /** Blueprint */
            blueprint: string | null;
            /** Counts */
            counts: {
                [key: string]: number;
            };
            /** Created At */
            created_at: string;
            /** Ended At */
            ended_at: string | null;
            /** Intent */
            intent: string | null;
            /** Labels */
            labels: {
                [key: string]: string;
            };
            /**
             * Parked Reason
             * @default null
             */
            parked_reason?: string | null;
            status: components["schemas"]["WorkflowStatus"];
            /** Trace Id */
            trace_id: string;
            /** Updated At */
            updated_at: string;
        } & {
            [key: string]: unknown;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export type operations = Record<string, never>;

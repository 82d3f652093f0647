"""The rules of Handrail, pure: no clock, no ids drawn, no randomness, no logging, no IO.

`decide(state, input, now)` says what follows from an input, as journal rows and messages; `evolve(state, row)` folds one
row; `outgoing(state, row)` says what a row sends. The orchestrator journals what is decided; the gateway asks the same
functions what a button would do. Time is milliseconds since 1970, handed in.

| file | rules of |
|---|---|
| `plan.py` `references.py` | what a plan may be; where a node's inputs come from |
| `state.py` `lifecycle.py` `evolve.py` | what is known of a workflow, which moves exist, how a row changes it |
| `snapshot.py` | a state written down, so that a long journal need not be folded whole |
| `inputs.py` `decide.py` `turn.py` | what can happen, who answers it, how rows are collected |
| `nodes.py` `retry.py` `unclaimed.py` | dispatch, results, retries, skips; attempts that nobody has claimed |
| `planning.py` `parts.py` | how nodes come in: with the start, from the planner, from an agent; what fits into an event |
| `pauses.py` | opening and closing pauses, what each button does |
| `compensation.py` `rollback.py` `undo_list.py` | abort of all or a part, drain, undo in reverse |
| `preview.py` `explain.py` | what a button would do; why a workflow is not moving |
"""

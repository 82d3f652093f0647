"""The language of Handrail: what is said on the bus, over HTTP and in the journal. Pydantic and the standard library, no IO.

| file | says |
|---|---|
| `model.py` | the three strictnesses of a message: door, wire, published |
| `ids.py` `envelope.py` `topics.py` `codec.py` | keys and partitions, CloudEvents headers, topics, bytes to messages |
| `plan.py` `blueprint.py` | how a DAG and a blueprint are written down |
| `commands.py` `tasks.py` `events.py` `pauses.py` | the messages |
| `view.py` | the one reducer: events to the state that clients see |
| `marked.py` | what does not leave of what an agent proposes |
| `answers.py` `problems.py` `patterns.py` | what the HTTP API answers, its problem codes, and patterns in words |
"""

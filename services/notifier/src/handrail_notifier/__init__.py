"""Projects events to Redis and streams them over SSE."""

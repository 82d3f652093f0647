"""Lists and searches of a million workflows: words of texts, and an order by time behind each filter.

Builds indexes over what is there: about 15 s per million workflows, while writes to these tables wait.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# No extension: pg_trgm is not everywhere. Scripts that write without spaces get a word per character. A word is cut at 40
# characters, since a lexeme has at most 2 KiB and a text that cannot be indexed would stop its partition.
_WORDS = r"""
CREATE FUNCTION handrail.words(said text) RETURNS text[] LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE low text := lower(left(said, 4000));
BEGIN
  IF octet_length(low) <> length(low) THEN
    low := regexp_replace(low, '([\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff])', ' \1 ', 'g');
  END IF;
  IF low ~ '[[:alnum:]]{41}' THEN
    low := regexp_replace(low, '([[:alnum:]]{40})[[:alnum:]]+', '\1', 'g');
  END IF;
  RETURN array_remove(regexp_split_to_array(low, '[^[:alnum:]]+'), '');
END $$
"""

# The last word may go on where the asked text ends.
_WANTED = """
CREATE FUNCTION handrail.wanted(asked text) RETURNS tsquery LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE words text[] := handrail.words(asked);
BEGIN
  RETURN nullif('''' || array_to_string(words, ''' & ''') || ''':*', ''''':*')::tsquery;
END $$
"""

# A trigger, so that the orchestrator of before fills them too.
_TOLD = """
CREATE FUNCTION handrail.pause_told() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  SELECT w.blueprint, concat_ws(E'\\n', NEW.node_id, left(NEW.data->>'failure_reason', 1500), left(w.intent, 2000))
    INTO NEW.blueprint, NEW.told
    FROM (SELECT) AS one LEFT JOIN handrail.workflow w ON w.tenant = NEW.tenant AND w.trace_id = NEW.trace_id;
  RETURN NEW;
END $$
"""
_TELL_OLD = """
UPDATE handrail.pause p
   SET blueprint = w.blueprint,
       told = concat_ws(E'\\n', p.node_id, left(p.data->>'failure_reason', 1500), left(w.intent, 2000))
  FROM handrail.pause o LEFT JOIN handrail.workflow w ON w.tenant = o.tenant AND w.trace_id = o.trace_id
 WHERE p.pause_id = o.pause_id
"""

_STATEMENTS = (
    _WORDS,
    _WANTED,
    "CREATE INDEX workflow_words ON handrail.workflow USING gin (array_to_tsvector(handrail.words(intent)))"
    " WHERE intent IS NOT NULL",
    "CREATE INDEX workflow_blueprint ON handrail.workflow (tenant, blueprint, status, created_at DESC, trace_id DESC)",
    "ALTER TABLE handrail.pause ADD COLUMN blueprint text, ADD COLUMN told text",
    _TOLD,
    "CREATE TRIGGER told BEFORE INSERT ON handrail.pause FOR EACH ROW EXECUTE FUNCTION handrail.pause_told()",
    _TELL_OLD,
    "CREATE INDEX pause_words ON handrail.pause USING gin (array_to_tsvector(handrail.words(told)))",
    *(
        f"CREATE INDEX pause_closed_{column} ON handrail.pause (tenant, {column}, closed_at DESC, pause_id DESC)"
        " WHERE state <> 'open'"
        for column in ("kind", "failed_agent", "error_code", "blueprint")
    ),
    "CREATE INDEX dead_letter_state ON handrail.dead_letter (tenant, state, at DESC, dead_letter_id DESC)",
    "CREATE INDEX dead_letter_agent ON handrail.dead_letter (tenant, agent, at DESC, dead_letter_id DESC)",
    "CREATE INDEX decision_time ON handrail.decision (tenant, decided_at, pause_id)",
    # only where there is something to know: what is known to be empty is read from end to end, by plans that stay
    "DO $$ BEGIN IF EXISTS (SELECT FROM handrail.workflow) THEN"
    " ANALYZE handrail.workflow, handrail.pause, handrail.dead_letter, handrail.decision; END IF; END $$",
)

# The key serves `LIKE 'abc%'` only where the planner knows that text is ordered by its bytes.
_BYTEWISE = """
SELECT coalesce(to_jsonb(d)->>'datlocprovider', 'c') = 'b'
    OR (coalesce(to_jsonb(d)->>'datlocprovider', 'c') = 'c' AND datcollate IN ('C', 'POSIX'))
  FROM pg_database d WHERE datname = current_database()
"""
_PREFIX = "CREATE INDEX workflow_trace_prefix ON handrail.workflow (tenant, trace_id text_pattern_ops)"


def upgrade() -> None:
    """Makes them. Older code neither sees nor misses them."""
    connection = op.get_bind()
    for statement in _STATEMENTS:
        connection.exec_driver_sql(statement)  # as it stands: `[:alnum:]` is no parameter
    if not connection.exec_driver_sql(_BYTEWISE).scalar():
        connection.exec_driver_sql(_PREFIX)


def downgrade() -> None:
    """Refused: see 0001."""
    raise NotImplementedError("Expected to go forward only. Drop the database, or restore a backup.")

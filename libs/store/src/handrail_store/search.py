"""Lists that are narrowed by text or labels, over tables too large to be read.

They are newest first. What many rows have stands among the newest of them; what few have, an index finds. Nobody knows
beforehand which it is (the planner guesses, and guesses wrong where words go together), so one statement tries three ways:
the newest rows; where these do not fill the page, what an index finds, unless that is more than can be sorted at once; and
then the newest rows again, as far as it takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

WALKED = 2_000
"""Rows that are looked at before an index is asked: about 5 ms."""
SORTED = 8_000
"""What an index may find at most before its rows are read in order instead: about 15 ms. Of a million rows a page of 50 that
more of them would fill is found sooner in order."""
UNSPACED = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
"""Scripts that write without spaces, as ranges in a regular expression, ours or PostgreSQL's: each character is a word."""
READINGS = 8
"""As many colons of a label may be the one between its name and its value, before its rows are looked for without an index."""
_UNSPACED = re.compile(f"[{UNSPACED}]")
_TRACE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def like(text: str) -> str:
    """`text` as a literal inside of a LIKE pattern."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


class Condition(NamedTuple):
    """A condition on a row, said twice: as an index finds rows by it, and as a row at hand is asked, which is cheaper."""

    by_index: str
    by_row: str

    @classmethod
    def all_of(cls, conditions: Sequence[Self | str]) -> Self:
        """That all of them hold; a text is its own other form."""
        pairs = [(c, c) if isinstance(c, str) else c for c in conditions]
        return cls(*(" AND ".join(forms) for forms in zip(*pairs, strict=True)))


def said(column: str, asked: str, bind: Callable[[object], str]) -> Condition:
    """The condition that `column` has the asked text, in its first 4,000 characters, from the beginning of a word on.

    What begins a word is what `handrail.words` takes for one (revision 0007), so that where the text stands, its words do.
    """
    anywhere, spaced = bind(f"%{like(asked)}%"), bind(f"% {like(asked)}%")
    begun, words = bind(_begun(asked)), bind(asked)
    text = f"left({column}, 4000)"
    # Most rows do not have it, and mostly a space stands before it: a pattern without a choice tells both sooner. In brackets
    # of its own, what does not change from row to row is worked out once.
    begins = f"({text} ILIKE {spaced} OR lower({text}) ~ (SELECT lower({begun}::text)))"
    stands = f"{text} ILIKE {anywhere} AND {begins}"
    return Condition(
        f"{stands} AND array_to_tsvector(handrail.words({column})) @@ handrail.wanted({words}::text)",
        f"{stands} AND (SELECT handrail.wanted({words}::text) IS NOT NULL)",
    )


def _begun(asked: str) -> str:
    """`asked` as PostgreSQL's regular expression, at the beginning of a word where it begins with one itself."""
    inside = asked[:1].isalnum() and not _UNSPACED.match(asked)
    return (rf"(^|[^[:alnum:]]|[{UNSPACED}])" if inside else "") + re.escape(asked)


def said_or_named(asked: str, bind: Callable[[object], str]) -> Condition:
    """The condition on a workflow that its intent has the asked text, or that its trace_id begins with it."""
    intent = said("intent", asked, bind)
    named = f" OR trace_id LIKE {bind(f'{like(asked)}%')}" if _TRACE_ID.fullmatch(asked) else ""
    return Condition(f"({intent.by_index}{named})", f"({intent.by_row}{named})")


def labelled(text: str, bind: Callable[[object], str]) -> Condition:
    """The condition that a row carries a label that reads `text`, which is written `name:value`. Both may hold colons, so each
    colon with something before it may be the one between them."""
    between = [i for i, c in enumerate(text) if c == ":" and i]

    def carried(at: int) -> str:
        return f"labels @> {bind(json.dumps({text[:at]: text[at + 1 :]}))}::text::jsonb"

    if len(between) == 1:
        return Condition(*[carried(between[0])] * 2)
    reads = f"EXISTS (SELECT FROM jsonb_each_text(labels) l WHERE l.key || ':' || l.value = {bind(text)}::text)"
    if len(between) > READINGS:
        return Condition(reads, reads)
    # Each form names each argument: one that a statement does not name has no type.
    return Condition(f"({' OR '.join(map(carried, between))}) AND {reads}", reads)


def page(name: str, source: str, columns: str, *, rows: str, narrowed: Condition, at: str, id_: str) -> str:
    """CTEs, the last one of that name: the newest `$2` rows of `source` that meet `rows` and `narrowed`.

    An index must bring what meets `rows` in the order of (`at`, `id_`), newest first, and another what meets `narrowed`.
    """
    order = f"ORDER BY {at} DESC, {id_} DESC"
    # Without an order: a walk is read as it was written down, and no further than the page needs.
    # Inside of coalesce no index serves a condition, and so the one that should does.
    older = f"coalesce(({at}, {id_}) < (SELECT {at}, {id_} FROM walk OFFSET {WALKED - 1}), false)"
    short = f"(SELECT count(*) FROM near) < $2 AND (SELECT count(*) FROM walk) = {WALKED}"
    found = "(SELECT count(*) FROM found)"
    return (
        f"walk AS MATERIALIZED (SELECT {columns} FROM {source} WHERE {rows} {order} LIMIT {WALKED}),"
        f" near AS MATERIALIZED (SELECT * FROM walk WHERE {narrowed.by_row} LIMIT $2),"
        f" found AS MATERIALIZED (SELECT {at}, {id_} FROM {source} WHERE {short} AND {rows} AND {narrowed.by_index} AND {older}"
        f" LIMIT {SORTED + 1}),"
        f" on_foot AS MATERIALIZED (SELECT {columns} FROM {source} WHERE {short} AND {found} > {SORTED} AND {rows}"
        f" AND {older} AND coalesce({narrowed.by_row}, false) {order} LIMIT $2),"
        f" best AS MATERIALIZED (SELECT {id_} AS chosen FROM found WHERE {found} <= {SORTED} {order} LIMIT $2),"
        f" {name} AS (SELECT * FROM (SELECT * FROM near UNION ALL SELECT * FROM on_foot UNION ALL"
        f" SELECT {columns} FROM best JOIN {source} ON {rows} AND {id_} = chosen) AS all_ways {order} LIMIT $2)"
    )

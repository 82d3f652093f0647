"""Lists that are narrowed by text or labels, over tables too large to be read.

They are newest first. What many rows have stands among the newest of them; what few have, an index finds. Nobody knows
beforehand which it is (the planner guesses, and guesses wrong where words go together), so one statement tries three ways:
the newest rows; where these do not fill the page, what an index finds, unless that is more than can be sorted at once; and
then the newest rows again, as far as it takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable

WALKED = 2_000
"""Rows that are looked at before an index is asked: about 5 ms."""
SORTED = 8_000
"""What an index may find at most before its rows are read in order instead: about 15 ms. Of a million rows a page of 50 that
more of them would fill is found sooner in order."""
_TRACE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def like(text: str) -> str:
    """`text` as a literal inside of a LIKE pattern."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def said(column: str, asked: str, bind: Callable[[object], str]) -> str:
    """The condition that `column` has the asked text, in its first 4,000 characters, from the beginning of a word on."""
    pattern, words = bind(f"%{like(asked)}%"), bind(asked)
    return (
        f"left({column}, 4000) ILIKE {pattern}"
        f" AND array_to_tsvector(handrail.words({column})) @@ handrail.wanted({words}::text)"
    )


def said_or_named(asked: str, bind: Callable[[object], str]) -> str:
    """The condition on a workflow that its intent has the asked text, or that its trace_id begins with it."""
    condition = f"({said('intent', asked, bind)})"
    if _TRACE_ID.fullmatch(asked):
        condition = f"({condition} OR trace_id LIKE {bind(f'{like(asked)}%')})"
    return condition


def page(
    name: str, source: str, columns: str, *, rows: str, narrowed: str, at: str, id_: str, walked: int = WALKED
) -> str:
    """CTEs, the last one of that name: the newest `$2` rows of `source` that meet `rows` and `narrowed`.

    An index must bring what meets `rows` in the order of (`at`, `id_`), newest first, and another what meets `narrowed`.
    """
    order = f"ORDER BY {at} DESC, {id_} DESC"
    # Inside of coalesce no index serves a condition, and so the one that should does.
    older = f"coalesce(({at}, {id_}) < (SELECT {at}, {id_} FROM walk ORDER BY {at}, {id_} LIMIT 1), false)"
    short = f"(SELECT count(*) FROM near) < $2 AND (SELECT count(*) FROM walk) = {WALKED}"
    found = "(SELECT count(*) FROM found)"
    return (
        f"walk AS MATERIALIZED (SELECT {columns} FROM {source} WHERE {rows} {order} LIMIT {WALKED}),"
        # Without an order: a walk is read as it was written down, and no further than the page needs.
        f" near AS MATERIALIZED (SELECT * FROM walk WHERE {narrowed} LIMIT $2),"
        f" found AS MATERIALIZED (SELECT {at}, {id_} FROM {source} WHERE {short} AND {rows} AND {narrowed} AND {older}"
        f" LIMIT {SORTED + 1}),"
        f" on_foot AS MATERIALIZED (SELECT {columns} FROM {source} WHERE {short} AND {found} > {SORTED} AND {rows}"
        f" AND {older} AND coalesce({narrowed}, false) {order} LIMIT $2),"
        f" best AS MATERIALIZED (SELECT {id_} AS chosen FROM found WHERE {found} <= {SORTED} {order} LIMIT $2),"
        f" {name} AS (SELECT * FROM (SELECT * FROM near UNION ALL SELECT * FROM on_foot UNION ALL"
        f" SELECT {columns} FROM best JOIN {source} ON {rows} AND {id_} = chosen) AS all_ways {order} LIMIT $2)"
    )

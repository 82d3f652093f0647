"""One command's conversation with Handrail: a client, the two consoles, and every failure as one clear line.

Exit codes of the whole CLI: 0 it worked, 1 Handrail refused or did not answer, 2 the command was used wrongly,
3 (with --watch or --wait) the workflow ended otherwise than complete or needs a person, 130 interrupted.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import sys
from collections.abc import Callable, Coroutine
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from handrail.cli.options import DEFAULT_URL
from handrail.cli.text import safe, to_json

if TYPE_CHECKING:
    from pydantic import BaseModel

    from handrail_sdk.client import Client

T = TypeVar("T")
Work = Callable[["Client"], Coroutine[Any, Any, T]]

PROBLEM = 1
USAGE = 2
NOT_COMPLETE = 3
INTERRUPTED = 130
_RETRIES = 2


def out() -> Console:
    """Standard output. In a pipe it is plain, and lines of text are uncut."""
    return Console(highlight=False, markup=False, soft_wrap=not sys.stdout.isatty())


def block(picture: RenderableType) -> None:
    """Prints what has a width of its own (pictures, cards, tables) as wide as the terminal; in a pipe, as 80 columns
    or what COLUMNS says."""
    out().print(picture, soft_wrap=False)


def err() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def interactive() -> bool:
    """Whether there is a person at both ends, who can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def call(url: str, actor: str | None, work: Work[T]) -> T:
    """Runs `work` with a client to `url` and answers what it answers. Failures are told and end the command."""
    from handrail_sdk.client import Client
    from handrail_sdk.client_errors import ClientError

    if not url.lower().startswith(("http://", "https://")):
        raise failed(
            f"Expected --url or HANDRAIL_URL to begin with http:// or https://, but it is {url[:200]!r}.", USAGE
        )

    async def session() -> T:
        async with Client(url, actor=actor or _user(), channel="cli", retries=_RETRIES) as client:
            return await work(client)

    try:
        return asyncio.run(session())
    except ClientError as e:
        tell(e)
        raise typer.Exit(PROBLEM) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def tell(error: Exception) -> None:
    """A failure on standard error: the sentence, then a line per faulty field."""
    from handrail_sdk.client_errors import Problem, Unreachable

    if isinstance(error, Unreachable):
        complain(
            f"Expected Handrail at {error.url}, but it does not answer ({error.reason}). Start it with `make demo` or"
            f" `{program()} up`, or name another one with --url or HANDRAIL_URL. `{program()} doctor` tells more."
        )
        return
    if not isinstance(error, Problem):
        complain(str(error))
        return
    complain(_plain(error.detail))
    for fault in error.errors:
        err().print(Text(f"  {safe(fault.pointer) or '/'}: {safe(_plain(fault.message))}"))


def _plain(sentence: str) -> str:
    """What the API says, for somebody who types commands: the command in the place of a request."""
    return sentence.replace("Look it up in GET /workflows.", f"Look it up with `{program()} ls`.")


def complain(sentence: str) -> None:
    """One line on standard error."""
    line = Text("handrail: ", style="bold red")
    err().print(line.append(safe(sentence), style=""))


def failed(sentence: str, code: int = PROBLEM) -> typer.Exit:
    """Tells in one line why the command ends; raise what this answers."""
    complain(sentence)
    return typer.Exit(code)


def dump(model: BaseModel) -> dict[str, Any]:
    """An answer as the API gave it."""
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)


def print_json(value: Any) -> None:
    """JSON on standard output."""
    print(to_json(value))  # noqa: T201  # for programs: no console, no wrapping


@cache
def program() -> str:
    """How this command is called here: `handrail` where it is on the PATH, else the way that leads to it."""
    if shutil.which("handrail"):
        return "handrail"
    return "./handrail" if os.access("handrail", os.X_OK) and os.path.isfile("handrail") else sys.argv[0]


def url_option(url: str) -> str:
    """What commands that we suggest must carry so that they reach the same Handrail."""
    known = os.environ.get("HANDRAIL_URL") or DEFAULT_URL
    return "" if url == known else f" --url {url}"


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None

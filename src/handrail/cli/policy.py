"""`handrail policy …`: look at the policies in force, check one, apply the next version, try it on past decisions."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from handrail.cli import tables
from handrail.cli.options import DEFAULT_URL, Actor, AsJson, Comment, Url, Yes
from handrail.cli.session import call, dump, err, failed, interactive, out, print_json, program, url_option
from handrail.cli.text import compact, duration, safe, short

if TYPE_CHECKING:
    from handrail_contracts.answers import PolicyView
    from handrail_sdk.client import Client

policy = typer.Typer(
    no_args_is_help=True,
    help="Approval by policy: which actions a person must approve, which never happen, which need nobody.",
    epilog="A policy is a YAML or JSON file. Begin with the one that ships: handrail policy show bank --yaml > bank.yaml",
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The policy, YAML or JSON; - is standard input.")]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Only decisions since then.", show_default="the first"),
]
_DECIDES = {"forbid": "bold red", "always": "yellow", "uncertain": "yellow", "never": "green"}


@policy.command()
def show(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One policy.", show_default="all")] = None,
    version: Annotated[int | None, typer.Option("--version", "-v", help="This version.", show_default="newest")] = None,
    history: Annotated[
        bool, typer.Option("--history", help="Every version, newest first, and who applied it.")
    ] = False,
    yaml: Annotated[bool, typer.Option("--yaml", help="As a file to edit and apply.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show the policies in force, or one with its rules."""
    if name is None:
        _list(url, as_json)
        return
    found = call(url, None, lambda client: client.policy(name))
    chosen = [p for p in found.items if version in (None, p.version)][: None if history else 1]
    if not chosen:
        raise failed(f"Expected a version of {name} (newest {found.items[0].version}), but there is no {version}.")
    if as_json:
        print_json([dump(p) for p in chosen] if history else dump(chosen[0]))
        return
    if yaml:
        sys.stdout.write(_as_yaml(dump(chosen[0])))
        return
    for p in chosen:
        _card(dump(p))


def _list(url: str, as_json: bool) -> None:
    found = call(url, None, lambda client: client.policies())
    if as_json:
        print_json({"items": [dump(p) for p in found.items], "next_cursor": found.next_cursor})
        return
    rows: list[list[tables.Cell]] = []
    for p in found.items:
        where = safe(p.blueprint) if p.blueprint else "every workflow"
        rows.append(
            [
                Text(safe(p.name), style="cyan"),
                str(p.version),
                where,
                str(len(p.rules)),
                tables.ago(p.applied_at),
                short(p.title or p.description, 120),
            ]
        )
    tables.show(
        ("POLICY", "VERSION", "FOR", "RULES", "APPLIED", "WHAT IT IS FOR"),
        rows,
        wide=("WHAT IT IS FOR",),
        optional=("APPLIED",),
        empty=f"No policy is in force: gates ask for everything. Apply one: {program()} policy apply FILE",
    )


def _card(p: Mapping[str, Any]) -> None:
    console = out()
    where = f", for {safe(p['blueprint'])}" if p.get("blueprint") else ""
    line = Text(safe(p["name"]), style="bold cyan").append(f"  version {p['version']}{where}", style="default")
    console.print(line)
    by = f"applied {p['applied_at']} by {safe(p['actor'])} ({safe(p['channel'])})"
    console.print(Text(by + (f": {safe(p['comment'])}" if p.get("comment") else ""), style="dim"))
    if p.get("description"):
        console.print(Text(safe(p["description"])))
    if budget := {k: v for k, v in (p.get("budget") or {}).items() if v is not None}:
        told = " and ".join(f"{v:g} {'USD' if k == 'usd' else safe(k)}" for k, v in budget.items())
        console.print(Text(f"  each workflow may spend {told} on models"))
    for rule in p["rules"]:
        head = Text("  ").append(f"{rule['decide']:9}", style=_DECIDES.get(rule["decide"], ""))
        console.print(head.append(safe(rule["id"]), style="bold").append(f"  {_match(rule['match'])}", style="default"))
        for exempt in rule.get("unless") or []:
            told = f"            unless {_match(exempt['match'])} (until {safe(exempt['until'])}) {safe(exempt.get('because', ''))}"
            console.print(Text(told, style="green"))


def _match(match: Mapping[str, Any]) -> str:
    parts: list[str] = []
    for fact, wanted in match.items():
        tests = wanted if isinstance(wanted, Mapping) else {"eq": wanted}
        signs = {"eq": "=", "ne": "≠", "gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
        parts += [f"{safe(fact)} {signs.get(op, op)} {compact(value)}" for op, value in tests.items()]
    return short(" and ".join(parts), 300)


@policy.command()
def check(file: File) -> None:
    """Read a policy file and say what is wrong with it. Asks nobody, changes nothing."""
    p = _read(file)
    out().print(Text("✓ ", style="green").append(f"{p['name']}: {len(p['rules'])} rules, all in order."))


@policy.command()
def apply(file: File, comment: Comment = None, yes: Yes = False, url: Url = DEFAULT_URL, actor: Actor = None) -> None:
    """Put a policy in force as its next version. Versions are kept for ever; none is changed."""
    p = _read(file)
    if interactive() and not yes:
        typer.confirm(f"Put {p['name']} in force, with {len(p['rules'])} rules?", abort=True, default=True)

    async def work(client: Client) -> tuple[int | None, PolicyView]:
        before = next((x.version for x in (await client.policies()).items if x.name == p["name"]), None)
        return before, await client.apply_policy(p, comment=comment)

    before, applied = call(url, actor, work)
    if applied.version == before:
        out().print(
            Text(f"{safe(applied.name)} version {before} is in force already, with these rules: nothing changed.")
        )
        return
    line = Text("✓ ", style="green").append(f"{safe(applied.name)} version {applied.version} is in force.")
    out().print(line)


@policy.command()
def simulate(file: File, since: Since = None, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Try a policy on past decisions: who would not have been asked, and what would have slipped through."""
    p = _read(file)
    found = call(url, None, lambda client: client.simulate_policy(p, since=since))
    if as_json:
        print_json(dump(found))
        return
    asked = found.interruptions
    console = out()
    if not found.decisions:
        console.print(Text("There are no decisions on gates yet: nothing to try it on.", style="dim"))
        return
    console.print(
        Text(
            f"{found.decisions} decisions: people were asked {asked['before']} times, with {safe(p['name'])} as in the file"
            f" {asked['after']} times ({asked['saved_share']:.0%} fewer; {duration(found.waited_s_spared)} of waiting spared)."
        )
    )
    _named("rejected, and nobody would have seen it", found.slipped, "bold red")
    _named("corrected by a person, and would have gone as it was", found.unedited, "yellow")
    _named("approved, and would have been forbidden", found.forbidden, "yellow")
    if not found.slipped and not found.unedited:
        console.print(Text("Nothing that a person stopped or changed would have slipped through.", style="green"))


def _named(what: str, items: list[dict[str, Any]], style: str) -> None:
    for item in items:
        line = Text("  ✗ ", style=style).append(short(item.get("summary") or item["action"], 120), style="bold")
        why = f": {safe(item['comment'])}" if item.get("comment") else ""
        line.append(f"  {what}{why}", style=style)
        out().print(line)
        who = f"{safe(item['actor'])}, {item['decided_at']}, {program()} show {safe(item['pause_id'])}"
        out().print(Text(f"    {who}", style="dim"))


@policy.command()
def suggest(
    least: Annotated[int, typer.Option("--min", min=3, help="So many unanimous approvals at least.")] = 20,
    days: Annotated[
        int, typer.Option("--days", min=1, max=365, help="For so many days; then people are asked again.")
    ] = 30,
    since: Since = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the policy with the first suggestion here.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Suggest exemptions that people's unanimous approvals speak for: time-boxed, never for what cannot be undone. Nothing is
    applied: look at it, try it, apply it; take it back by applying the version before."""
    found = call(url, None, lambda client: client.policy_suggestions(least=least, days=days, since=since))
    if output is not None and found.items:
        output.write_text(_as_yaml(found.items[0].candidate), "utf-8")
        err().print(f"{output}: try it with {program()} policy simulate {output}{url_option(url)}")
    if as_json:
        print_json({"items": [dump(s) for s in found.items], "next_cursor": found.next_cursor})
        return
    if not found.items:
        text = f"No exemption has {least} unanimous approvals behind it (of actions that can be undone)."
        out().print(Text(text, style="dim"))
    for s in found.items:
        line = Text(f"{s.approvals} approvals by {s.people} people, none changed or refused: ", style="bold")
        out().print(line.append(f"{safe(s.policy)}, rule {safe(s.rule_id)}", style="cyan"))
        out().print(Text(f"  unless {_match(s.exemption['match'])}, until {safe(s.exemption['until'])}", style="green"))


def _read(file: Path) -> dict[str, Any]:
    """The file as a policy. Ends the command with one line per fault."""
    import yaml
    from pydantic import ValidationError

    from handrail_contracts.policy import Policy

    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
        data = yaml.safe_load(text)
        model = Policy.model_validate(data)
    except OSError as e:
        raise typer.BadParameter(f"Expected to read {file}, but that failed: {e.strerror}.") from e
    except yaml.YAMLError as e:
        raise failed(f"Expected YAML or JSON in {file}, but: {' '.join(str(e).split())[:200]}") from e
    except ValidationError as e:
        for fault in e.errors(include_url=False):
            where = "".join(f"/{part}" for part in fault["loc"]) or "/"
            err().print(Text(f"  {safe(where)}: {safe(fault['msg'].removeprefix('Value error, '))}"))
        raise failed(f"Expected a policy in {file}, but it has {e.error_count()} faults.") from e
    return {"name": model.name, **model.model_dump(mode="json", exclude_unset=True)}


def _as_yaml(p: Mapping[str, Any]) -> str:
    """A policy as a file: without what only its history has, and without a number, so that it becomes the next version."""
    import yaml

    fields = ("name", "blueprint", "title", "description", "redact", "budget", "rules")
    data = {k: p[k] for k in fields if p.get(k)}
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)

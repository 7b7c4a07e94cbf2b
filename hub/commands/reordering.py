"""Commands about reorders: what is on order, what would be, and a person's word on an order that waits for one."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hub.commands.asking import CONFIG, AsJson, ConfigPath, ask, ask_listed, checked, me, with_hub
from hub.commands.looking import Limit, Store
from hub.commands.output import complain, moment, say, show_json, show_table
from hub.errors import CommandError
from hub.process import Caller
from hub.web.api import PlanWanted, ReorderEnded, ReordersWanted, WrongUsage

Orders = Annotated[list[str], typer.Argument(help="Orders, their deliveries or lines, as `hub reorders` lists them.")]
Route = Annotated[str | None, typer.Option(help="Only of this route.")]
Why = Annotated[str, typer.Option(help="Why, for others to read.")]


def reorders(
    context: typer.Context,
    store: Store = None,
    sku: Annotated[str | None, typer.Option(help="Only of this SKU.")] = None,
    state: Annotated[str | None, typer.Option(help="open, waiting (for a person), ordering, sent or closed.")] = None,
    route: Route = None,
    limit: Limit = 50,
    before: Annotated[str | None, typer.Option(help="The next page, as the last one said.")] = None,
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """What was ordered anew because stock was low, newest first: open, waiting for a person, sent, closed."""
    if context.invoked_subcommand is not None:
        return
    wanted = checked(ReordersWanted, store=store, sku=sku, state=state, route=route, limit=limit, before=before)
    found = ask_listed(config, "reorders", wanted, "reorders")
    if as_json:
        show_json(found)
        return
    rows = [
        (
            moment(one["opened_at"]),
            one["id"],
            one["sku"],
            one["location"],
            one["quantity"],
            one["supplier"],
            one["state"],
            one["order_id"],
            _because(one),
        )
        for one in found["reorders"]
    ]
    show_table(
        ["time", "id", "SKU", "location", "quantity", "supplier", "state", "order", "because"], rows, "no reorders"
    )
    if found["before"] is not None:
        say(f"more with --before {found['before']}")


def _because(line: dict[str, Any]) -> str:
    """What there is to know of a line in its state."""
    match line["state"]:
        case "waiting":
            return str(line["held"])
        case "closed":
            return f"{line['number']}: {line['why']}" if line["number"] else str(line["why"])
        case "sent":
            return f"sent as {line['number']}"
        case "open":
            return f"{line['reason']}; goes out {moment(line['due_at'])}"
    return str(line["reason"])


def plan(route: Route = None, config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """What would be ordered now, from the stores' present stock. Orders nothing."""
    found = ask(config, "reorders.plan", checked(PlanWanted, route=route))
    if as_json:
        show_json(found)
    else:
        rows = [
            (
                one["store"],
                one["sku"],
                one["location"],
                one["quantity"],
                one["supplier"],
                one["there"] or "would be ordered",
                one["reason"],
            )
            for one in found["lines"]
        ]
        show_table(
            ["store", "SKU", "location", "quantity", "supplier", "now", "because"], rows, "nothing would be ordered"
        )
    if found["failed"]:
        complain(*(f"route {one['route']}, store {one['store']}: {one['reason']}" for one in found["failed"]))
        raise typer.Exit(1)


def approve(ids: Orders, config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """Let orders that wait for a person go. One that cannot keeps none of the others."""
    _each(config, "reorder.approve", [{"id": one, "who": me()} for one in ids], "approved", as_json=as_json)


def drop(ids: Orders, why: Why, config: ConfigPath = CONFIG, as_json: AsJson = False) -> None:
    """Cancel orders that were not sent, and close their lines; the next low stock opens others."""
    each = [checked(ReorderEnded, id=one, why=why, who=me()) for one in ids]
    _each(config, "reorder.drop", each, "dropped", as_json=as_json)


def close(
    ids: Annotated[list[str], typer.Argument(help="Reorders, as `hub reorders` lists them.")],
    why: Why,
    config: ConfigPath = CONFIG,
    as_json: AsJson = False,
) -> None:
    """Close reorders, as when the goods have come: the next low stock opens others."""
    each = [checked(ReorderEnded, id=one, why=why, who=me()) for one in ids]
    _each(config, "reorder.close", each, "closed", as_json=as_json)


def _each(config: Path, operation: str, asked: list[dict[str, Any]], done: str, *, as_json: bool) -> None:
    async def work(caller: Caller) -> tuple[list[str], list[str]]:
        ids, failed = [], []
        for one in asked:
            try:
                ids.append(next(iter((await caller(operation, one)).values())))
            except WrongUsage:
                raise
            except CommandError as error:
                failed.append(str(error))
        return ids, failed

    ids, failed = with_hub(config, work)
    if as_json:
        show_json({done: ids, "failed": failed})
    elif ids:
        say(f"{done}: {', '.join(ids)}")
    if failed:
        complain(*failed)
        raise typer.Exit(1)

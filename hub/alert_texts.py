"""What the hub's own events say: for each kind a sentence for a person, what to do, and where to look. Pure."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

DEAD = "hub.delivery.dead"
HELD = "hub.route.held"
REFUSED = "hub.refused"
DISK = "hub.disk.low"
BEHIND = "hub.behind"
UNPOLLED = "hub.catch_up.failing"
UNREGISTERED = "hub.webhooks.wrong"
REORDER_HELD = "hub.reorder.held"
REORDER_EXPIRED = "hub.reorder.expired"
OF_ROUTES = {DEAD, HELD, BEHIND, REORDER_HELD, REORDER_EXPIRED}
"""Whose name is a route."""

BEHIND_AFTER = timedelta(seconds=60)
UNKNOWN_STORE = "?"
REFUSAL_CAUSES = {
    "AUTHENTICATION_ERROR": "the signature was missing or wrong; compare the store's secret with webhook_secrets",
    "NOT_FOUND": "no store of that name is configured; compare the webhook's URL with stores",
    "VALIDATION_ERROR": "the request was no event",
}
MOST_NAMED = 10
LONGEST_REASON = 300


@dataclass(frozen=True)
class News:
    """What is to be told of one matter: how many since when, some of what it is about, `more` of them unnamed.

    `name` is the route or store, or empty; `label` the reason's key, under which like ones are told together, or what
    is told by itself.
    """

    kind: str
    name: str
    label: str
    reason: str
    count: int
    since: datetime
    entities: tuple[str, ...] = ()
    more: int = 0
    deliveries: tuple[str, ...] = ()
    store: str | None = None

    @property
    def route(self) -> str | None:
        return self.name if self.kind in OF_ROUTES and self.name else None

    @property
    def lasts(self) -> bool:
        """Whether it is a state, which is told again only while it lasts, and no happening, of which each counts."""
        return self.kind in {DISK, BEHIND}


def together(one: News | None, other: News) -> News:
    """Two parts of one matter's news as one; the newer reason stands."""
    if one is None:
        return other
    entities = tuple(dict.fromkeys(one.entities + other.entities))
    return replace(
        other,
        count=one.count + other.count,
        since=min(one.since, other.since),
        entities=entities[:MOST_NAMED],
        more=one.more + other.more + len(entities[MOST_NAMED:]),
        deliveries=(one.deliveries + other.deliveries)[:MOST_NAMED],
        store=one.store if one.store == other.store else None,
    )


def alert_data(news: News, now: datetime, dashboard: str | None, *, summary: bool) -> dict[str, Any]:
    """An alert event's `data`. `dashboard`: its address for links; without it the text names a command."""
    kind = KINDS[news.kind]
    path = kind.path(news)
    url = f"{dashboard}{path}" if dashboard else None
    where = f"Open {url}" if url else f"`{kind.command(news)}` tells more"
    parts = [kind.sentence(news, summary=summary), _named(news), f"{where}."]
    return {
        "route": news.route,
        "store": news.store,
        "reason": _reason(news),
        "error_key": None if news.kind in {REORDER_HELD, REORDER_EXPIRED} else news.label or None,
        "count": news.count,
        "since": _time(news.since),
        "until": _time(now),
        "entities": list(news.entities),
        "more": news.more,
        "deliveries": list(news.deliveries),
        "url": url,
        "remedy": kind.remedy(news),
        "text": " ".join(part for part in parts if part),
    }


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M} UTC"


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _reason(news: News) -> str:
    line = " ".join(news.reason.split())
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 1]}…"


def _many(count: int, one: str, several: str, more: bool) -> str:
    return f"{count}{' more' if more else ''} {one if count == 1 else several}"


def _named(news: News) -> str:
    """`Orders: ord_1, ord_2 and 12 more.`"""
    if not news.entities:
        return ""
    kinds = {entity.partition(":")[0] for entity in news.entities}
    alone = len(news.entities) + news.more == 1
    if len(kinds) == 1:
        (kind,) = kinds
        shown = [entity.partition(":")[2] for entity in news.entities]
        title = f"{kind.capitalize()}{'' if alone or kind == 'inventory' else 's'}"
    else:
        shown, title = list(news.entities), "About"
    more = f" and {news.more} more" if news.more else ""
    return f"{title}: {', '.join(shown)}{more}."


def _dead(news: News, *, summary: bool) -> str:
    deliveries = f"{_many(news.count, 'delivery', 'deliveries', summary)} on route {news.name}"
    since = f"since {_clock(news.since)}: {_reason(news)}."
    if summary:
        return f"{deliveries} died {since}"
    are, they, them = ("is", "It is", "it") if news.count == 1 else ("are", "They are", "them")
    return f"{deliveries} {are} dead {since} {they} not tried again unless someone replays {them}."


def _held(news: News, *, summary: bool) -> str:
    since = _clock(news.since)
    if summary:
        return f"Route {news.name} was held {_many(news.count, 'time', 'times', True)} since {since}: {_reason(news)}."
    return (
        f"Route {news.name} is held since {since}: {_reason(news)}. Its deliveries wait, and none is lost: now and then"
        " one is tried, and once one gets through the rest follow by themselves."
    )


def _refused(news: News, *, summary: bool) -> str:
    store = "an unknown store" if news.name == UNKNOWN_STORE else f"store {news.name}"
    were = "was" if news.count == 1 else "were"
    requests = _many(news.count, "request", "requests", summary)
    return f"{requests} for {store} {were} refused since {_clock(news.since)}: {_reason(news)}."


def _disk(news: News, *, summary: bool) -> str:
    reason = _reason(news)
    found = f"Still so: {reason}" if summary else reason[:1].upper() + reason[1:]
    return f"{found}. Webhooks are answered 503 until there is room, and the store sends those again; deliveries go on."


def _behind(news: News, *, summary: bool) -> str:
    names = ("delivery", "deliveries") if news.name else ("event", "events")
    on = f" on route {news.name}" if news.name else ""
    wait = f"{'still ' if summary else ''}{'waits' if news.count == 1 else 'wait'}{'' if news.name else ' for fan-out'}"
    since = f"the oldest since {_clock(news.since)}" if news.count > 1 else f"since {_clock(news.since)}"
    return f"{_many(news.count, *names, False)}{on} {wait}, {since}: {_reason(news)}."


def _unpolled(news: News, *, summary: bool) -> str:
    again = "Once more: " if summary else ""
    return (
        f"{again}Store {news.name} could not be polled since {_clock(news.since)}: {_reason(news)}. Webhooks go on;"
        " what none of them brings is found once polling works again."
    )


def _unregistered(news: News, *, summary: bool) -> str:
    again = "Once more: " if summary else ""
    return f"{again}Store {news.name} does not send all its webhooks here since {_clock(news.since)}: {_reason(news)}."


def _reorder_held(news: News, *, summary: bool) -> str:
    again = "Once more: " if summary else ""
    return f"{again}Route {news.name} has an order that waits for a person since {_day(news.since)}: {_reason(news)}."


def _reorder_expired(news: News, *, summary: bool) -> str:
    reorders = _many(news.count, "reorder", "reorders", summary)
    was, its = ("was", "its") if news.count == 1 else ("were", "their")
    why = "" if news.label == "gone" else f" for {its} age"
    return f"{reorders} of route {news.name} {was} closed{why}: {_reason(news)}."


@dataclass(frozen=True)
class Kind:
    """How one kind is told."""

    sentence: Callable[..., str]
    remedy: Callable[[News], str]
    path: Callable[[News], str]
    command: Callable[[News], str]


def _list_of(status: str, news: News) -> str:
    parts = {"status": status, "route": news.name, "error_key": news.label if news.kind == DEAD else ""}
    return f"/deliveries?{urlencode({name: value for name, value in parts.items() if value})}"


def _behind_remedy(news: News) -> str:
    if not news.name:
        return "See whether all workers run (`hub status`), and what their logs say."
    return "See whether the destination is slow; give the route more concurrency or a higher rate."


KINDS = {
    DEAD: Kind(
        _dead,
        lambda news: f"Mend the cause, then `hub replay --status dead --route {news.name}` sends them again.",
        lambda news: _list_of("dead", news),
        lambda news: f"hub deliveries --status dead --route {news.name}",
    ),
    HELD: Kind(
        _held,
        lambda news: f"Mend the destination or the route's settings; `hub resume {news.name}` probes at once.",
        lambda news: _list_of("broken", news),
        lambda news: f"hub deliveries --status broken --route {news.name}",
    ),
    REFUSED: Kind(
        _refused,
        lambda news: "See who sent them and why they were refused; what was right after all can be let in.",
        lambda news: "/refused",
        lambda news: "hub refused",
    ),
    DISK: Kind(
        _disk,
        lambda news: "Make room on the disk, or let the hub keep less: `keep` and `disk` in the config.",
        lambda news: "/",
        lambda news: "hub status",
    ),
    BEHIND: Kind(
        _behind,
        _behind_remedy,
        lambda news: _list_of("pending", news) if news.name else "/",
        lambda news: "hub status",
    ),
    UNPOLLED: Kind(
        _unpolled,
        lambda news: f"See whether the store is up and its API key right; `hub catch-up {news.name}` polls at once.",
        lambda news: "/",
        lambda news: "hub status",
    ),
    UNREGISTERED: Kind(
        _unregistered,
        lambda news: f"`hub store connect {news.name}` makes and mends the store's registrations.",
        lambda news: "/",
        lambda news: f"hub store watch {news.name}",
    ),
    REORDER_HELD: Kind(
        _reorder_held,
        lambda news: f"`hub reorders approve {news.label}` sends it, `hub reorders drop {news.label}` does not.",
        lambda news: "/reorders",
        lambda news: "hub reorders --state waiting",
    ),
    REORDER_EXPIRED: Kind(
        _reorder_expired,
        lambda news: "See what became of these orders; what is low still or again is ordered anew.",
        lambda news: "/reorders?state=closed",
        lambda news: "hub reorders --state closed",
    ),
}

"""The whole config file as models: every setting, its default, its meaning and its bounds.

The reference, the JSON schema and config.example.yaml derive from here. `load_config` reads the file (through
hub/yamlfile.py) and reports every mistake at once, each with its line and a remedy; no text shows a secret.
"""

import hashlib
import inspect
import ipaddress
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from difflib import get_close_matches
from functools import cached_property, lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PrivateAttr,
    SerializeAsAny,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from hub.connector import Connector, Secret, Template
from hub.errors import ConfigError, TemplateError
from hub.event import EVENT_TYPES
from hub.language import Condition, compile_condition, compile_template
from hub.problems import Inner, inner_problem, problem_lines, raise_inner
from hub.sandbox import near, shortened
from hub.units import Duration, RateSetting, Size
from hub.yamlfile import Place, YamlFile, read_yaml

CONNECTORS = "litekart_hub.connectors"
RESERVED_STORE = "hub"
DEFAULT_SCHEDULE = ("5s", "1m", "5m", "30m", "2h", "5h", "10h", "24h", "24h")
SHORTEST_SECRET = 16

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]

ARGON2 = r"\$argon2id\$v=19\$m=[0-9]{1,7},t=[0-9]{1,3},p=[0-9]{1,3}\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{16,}"
PLACE = r"(?:\[[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?\]|[^\s:\[\]]+):(?:\*|[0-9]{1,5})"


def _not_reserved(name: str) -> str:
    if name == RESERVED_STORE:
        raise ValueError("is the hub's own name; choose another")
    return name


def _long_enough(secret: Secret) -> Secret:
    if len(secret.reveal()) < SHORTEST_SECRET:
        raise ValueError(f"a webhook secret has at least {SHORTEST_SECRET} characters")
    return secret


def _hard_to_guess(token: Secret) -> Secret:
    if len(token.reveal()) < SHORTEST_SECRET or not re.fullmatch(r"[!-~]+", token.reveal()):
        raise ValueError(f"must be at least {SHORTEST_SECRET} characters, letters, digits and signs, no spaces")
    return token


def _web_url(url: str) -> str:
    if not _is_address(url) or urlsplit(url).query or urlsplit(url).fragment:
        raise ValueError("must be an address such as https://shop.example, without password, ? or #")
    return url.rstrip("/")


def _is_address(url: str) -> bool:
    """Whether it is an address of the web, without a password."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return usable and parts.username is None and url.isprintable()


def _proxy(address: str) -> str:
    try:
        return str(ipaddress.ip_network(address, strict=False))
    except ValueError:
        raise ValueError("must be an IP address or a network such as 10.0.0.0/8") from None


def _reachable(place: str) -> str:
    if not re.fullmatch(PLACE, place):
        raise ValueError("must be host:port, such as erp.local:8069 or 10.1.0.0/16:*; an IPv6 host in brackets")
    return place


def _between(least: timedelta, most: timedelta) -> AfterValidator:
    return AfterValidator(lambda value: _bounded(value, least, most))


def _bounded(value: timedelta, least: timedelta, most: timedelta) -> timedelta:
    if not least <= value <= most:
        raise ValueError(f"must be from {least.total_seconds():g} s to {most.total_seconds():g} s")
    return value


def header_text(value: str) -> str:
    """Text that a header can hold. Raises ValueError: found out here, and not by every request."""
    if not re.fullmatch(r"[!-~]+", value):
        raise ValueError("must be letters, digits and signs without spaces, as it goes into a header")
    return value


def _for_a_header(key: Secret) -> Secret:
    return Secret(header_text(key.reveal()))


def _admin_url(pattern: str) -> str:
    address = pattern.replace("{id}", "id").replace("{kind}", "orders")
    if "{id}" not in pattern or not _is_address(address) or re.search(r'[\s<>"|{}]', address):
        raise ValueError("must be an address with {id} in it, such as https://shop.example/admin/orders/{id}")
    return pattern


WebUrl = Annotated[str, AfterValidator(_web_url)]
WebhookSecret = Annotated[Secret, AfterValidator(_long_enough)]
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
LEAST_OVERLAP = timedelta(minutes=5)
# An hour's spent budget is no failure yet.
LEAST_FAILING = timedelta(minutes=90)


class Section(BaseModel):
    """A part of the file: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True)


class Server(Section):
    """Where the hub listens."""

    host: str = Field("127.0.0.1", description="The address to listen on; 0.0.0.0 for all.")
    port: int = Field(8600, ge=0, le=65535, description="The port; 0 takes a free one.")
    public_url: WebUrl | None = Field(None, description="The hub's address as others see it, for links in messages.")
    trusted_proxies: tuple[Annotated[str, AfterValidator(_proxy)], ...] = Field(
        (), description="Proxies whose X-Forwarded-For is believed: addresses or networks."
    )


class Network(Section):
    """What connectors may reach."""

    allow: tuple[Annotated[str, AfterValidator(_reachable)], ...] = Field(
        (), description="Private addresses that connectors may reach: host:port, * for any port."
    )


class CatchUp(Section):
    """How webhooks that never came are found: by polling the store."""

    every: Annotated[Duration, _between(SECOND, timedelta(days=1))] | None = Field(
        "10m", validate_default=True,
        description="How often the store's orders, products and customers are polled; null (as catch_up: off): never.",
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return {"every": None} if value == "off" else value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler.resolve_ref_schema(handler(schema)) | {"type": ["object", "string"], "pattern": "^off$"}

    @property
    def overlap(self) -> timedelta:
        """How far each poll looks back beyond the one before: what a store shows late is still found."""
        return max(2 * self.every, LEAST_OVERLAP) if self.every is not None else LEAST_OVERLAP

    @property
    def failing_after(self) -> timedelta:
        """For how long polling may fail before it is worth telling."""
        return max(3 * self.every, LEAST_FAILING) if self.every is not None else LEAST_FAILING


class StoreRate(Section):
    """How many requests an hour the hub may send to a shop's REST API."""

    limit: int = Field(1000, ge=1, le=1_000_000, description="Requests an hour, until the shop itself says how many.")
    reserve: float = Field(
        10, ge=0, lt=100, description="The part, in percent, that background work leaves to deliveries."
    )


class Store(Section):
    """One Litekart shop."""

    url: WebUrl = Field(description="The shop's address.")
    api_key: Annotated[Secret, AfterValidator(_for_a_header)] | None = Field(
        None,
        description="Key to its REST API, for catching up, for connectors that read the store and for what routes "
        "fetch.",
    )
    admin_url: Annotated[str, AfterValidator(_admin_url)] | None = Field(
        None,
        description="Where its admin shows an order, such as https://shop.example/admin/orders/{id}, for links in"
        " messages; with {kind} (orders, products, customers) also the others. Null: no links.",
    )
    profile: Literal["seed", "v2"] = Field(
        "seed", description="Its REST API: seed as the platform's page tells it, v2 as the live platform has it."
    )
    store_id: str | None = Field(
        None,
        pattern=r"^[!-~]{1,200}$",
        description="With v2 on a host that several shops share: its id there, for the header x-litekart-store.",
    )
    rate: StoreRate = Field(
        default_factory=StoreRate, description="How many requests an hour its REST API takes from the hub."
    )
    webhook_secrets: tuple[WebhookSecret, ...] = Field(
        min_length=1,
        description="Its webhooks are signed with one of these, each at least 16 characters; several while rotating.",
    )
    event_id_field: str | None = Field(
        None, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$",
        description="A field of the webhook's body that holds an id of its own, if the shop sends one; tells repeats."
        " With another field set, what came before is new once more. What happens once by nature (order.placed,"
        " product.created, customer.registered) goes without it while the store is caught up on.",
    )  # fmt: skip
    catch_up: CatchUp = Field(
        default_factory=CatchUp,
        description="Finds by polling what no webhook brought, beginning when it is first on; needs the API key.",
    )

    @property
    def catches_up(self) -> bool:
        """Whether the store is polled for what no webhook brought."""
        return self.api_key is not None and self.catch_up.every is not None

    def admin_link(self, kind: str, id: str) -> str | None:
        """Where its admin shows the `order`, `product` or `customer` of that id; None where the config does not say."""
        if self.admin_url is None or (kind != "order" and "{kind}" not in self.admin_url):
            return None
        return self.admin_url.replace("{kind}", f"{kind}s").replace("{id}", quote(id, safe=""))


class Retry(Section):
    """How a delivery that failed is tried again."""

    schedule: tuple[Annotated[Duration, _between(timedelta(0), timedelta(days=30))], ...] = Field(
        DEFAULT_SCHEDULE, max_length=50, validate_default=True,
        description="Waits between attempts, each ±20 %; after the last the delivery is dead.",
    )  # fmt: skip


class Worker(Section):
    """How deliveries are run."""

    lease_margin: Annotated[Duration, _between(SECOND, 10 * MINUTE)] = Field(
        "20s", validate_default=True,
        description="How long past its timeout an attempt may stay silent before its worker counts as gone.",
    )  # fmt: skip


class Keep(Section):
    """How long events are kept whole."""

    events: Annotated[Duration, _between(MINUTE, timedelta(days=3650))] = Field(
        "90d", validate_default=True,
        description="Bodies, headers and attempts of events of which everything is delivered or skipped.",
    )  # fmt: skip
    dead: Annotated[Duration, _between(MINUTE, timedelta(days=3650))] = Field(
        "365d", validate_default=True, description="The same of events of which something is dead."
    )


class Disk(Section):
    """When the disk counts as full: webhooks are refused with 503 before it is, and an alert is sent."""

    min_free: Size = Field("1GiB", validate_default=True, description="Least that is free.")
    min_free_percent: float = Field(5, ge=0, lt=100, description="Least that is free, in percent of the disk.")


class User(Section):
    """Someone who may use the dashboard."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}$", description="What they log in as.")
    password: Secret = Field(description="Its argon2 hash, as `hub passwd` makes it.")
    role: Literal["viewer", "operator"] = Field("viewer", description="operator may also replay, pause and let in.")

    @field_validator("password")
    @classmethod
    def _is_hash(cls, password: Secret) -> Secret:
        if not re.fullmatch(ARGON2, password.reveal()):
            raise ValueError("must be a hash, not the password itself: `hub passwd` makes one")
        return password


class Dashboard(Section):
    """Where the dashboard listens, and who may use it."""

    host: str = Field("127.0.0.1", description="The address to listen on; an open one needs users.")
    port: int = Field(8601, ge=0, le=65535, description="The port; 0 takes a free one.")
    users: tuple[User, ...] = Field((), description="Who may log in; without any, a link is printed at start.")
    public_url: WebUrl | None = Field(
        None, description="The dashboard's address as others see it, for links in alerts."
    )
    metrics_token: Annotated[Secret, AfterValidator(_hard_to_guess)] | None = Field(
        None, description="Bearer token for /metrics from other machines, at least 16 characters; this one needs none."
    )

    @field_validator("users")
    @classmethod
    def _once(cls, users: tuple[User, ...]) -> tuple[User, ...]:
        names = [user.name for user in users]
        if len(set(names)) < len(names):
            raise ValueError("a name stands there twice")
        return users


class Log(Section):
    """What the hub writes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is written.")
    format: Literal["auto", "text", "json"] = Field("auto", description="auto: text on a terminal, else json.")


class Route(Section):
    """A named use of a connector: which events, under which condition, with which settings."""

    connector: str = Field(description="An installed connector's name, or package.module:Class.")
    stores: tuple[str, ...] | None = Field(None, description="Only events of these stores; null for all.")
    events: tuple[Annotated[str, StringConstraints(min_length=1, max_length=200)], ...] = Field(
        ("*",), min_length=1, description="Types of event; * stands for any characters."
    )
    fetches: tuple[Literal["order", "customer", "product"], ...] = Field(
        (), alias="with",
        description="What is fetched from the store for each event by its ids: order, customer, product. Conditions,"
        " templates and messages can name them.",
    )  # fmt: skip
    when: str | None = Field(
        None,
        description="A condition on the event, such as data.total >= 100; on what `with` fetches it is judged at"
        " delivery.",
    )
    settings: SerializeAsAny[Connector.Settings] = Field(
        default_factory=dict, validate_default=True, description="The connector's own settings."
    )
    timeout: Annotated[Duration, _between(SECOND, 10 * MINUTE)] = Field(
        "15s", validate_default=True, description="The longest one attempt may take."
    )
    concurrency: int = Field(10, ge=1, le=1000, description="Most deliveries under way at once.")
    rate: RateSetting | None = Field(None, description="Most attempts in a time: 1/s, 30/m, 500/h.")
    ordered: bool = Field(False, description="One after the other for each order, product or customer.")
    max_age: Duration | None = Field(None, description="Skip what is older than this before its first attempt.")
    retry: Retry = Field(default_factory=Retry, description="How a delivery that failed is tried again.")
    alerts: tuple[str, ...] | None = Field(
        None, description="Routes that are told of this one's trouble; null for those that all alerts go to."
    )

    @model_validator(mode="before")
    @classmethod
    def _as_its_connector_has_it(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("connector"), str):
            return value
        try:
            return {**find_connector(value["connector"]).route_defaults, **value}
        except ConfigError:
            # Told at the setting itself.
            return value

    @field_validator("connector")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            find_connector(name)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return name

    @field_validator("stores")
    @classmethod
    def _exist(cls, stores: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        _known_stores(stores, (info.context or {}).get("stores", stores))
        return stores

    @field_validator("when")
    @classmethod
    def _compiles(cls, source: str | None, info: ValidationInfo) -> str | None:
        try:
            named = compile_condition(source).fetched if source is not None else frozenset()
        except TemplateError as error:
            raise ValueError(str(error)) from None
        if more := sorted(named.difference(info.data.get("fetches", named))):
            listed = [*info.data["fetches"], *more]
            raise ValueError(f"names {more[0]}, which is not fetched: add `with: [{', '.join(listed)}]`")
        return source

    @field_validator("settings", mode="wrap")
    @classmethod
    def _of_connector(cls, value: Any, _: Any, info: ValidationInfo) -> Any:
        name = info.data.get("connector")
        if name is None or isinstance(value, Connector.Settings):
            return value
        model = find_connector(name).Settings
        try:
            settings = model.model_validate({} if value is None else value, context=info.context)
        except ValidationError as error:
            raise Inner(error, model) from None
        _compile_templates(settings)
        return _beside(settings, _folder(info))

    @cached_property
    def connector_class(self) -> type[Connector]:
        return find_connector(self.connector)

    @cached_property
    def condition(self) -> Condition | None:
        return compile_condition(self.when) if self.when is not None else None

    @cached_property
    def judged_later(self) -> bool:
        """Whether its condition needs what is fetched, and so is judged in the delivery."""
        return self.condition is not None and bool(self.condition.fetched)


class Config(Section):
    """config.yaml."""

    server: Server = Field(default_factory=Server, description="Where the hub listens.")
    database: Secret = Field(
        Secret("sqlite:///data/hub.db"), validate_default=True,
        description="sqlite:///FILE beside this file, for one process, or postgresql://user:password@host/name.",
    )  # fmt: skip
    redis: Secret = Field(Secret("embedded"), description="embedded, or redis://host:6379/0.")
    data_dir: Path = Field(
        Path("data"), validate_default=True, description="The folder for the hub's own files, beside this file."
    )
    network: Network = Field(default_factory=Network, description="What connectors may reach.")
    worker: Worker = Field(default_factory=Worker, description="How deliveries are run.")
    log: Log = Field(default_factory=Log, description="What the hub writes to standard error.")
    dashboard: Dashboard = Field(
        default_factory=Dashboard, description="Where the dashboard listens, and who may use it."
    )
    keep: Keep = Field(default_factory=Keep, description="How long events are kept whole.")
    disk: Disk = Field(default_factory=Disk, description="When the disk counts as full.")
    alerts: tuple[str, ...] = Field((), description="Routes that the hub's own alerts go to, by name.")
    stores: dict[Annotated[Name, AfterValidator(_not_reserved)], Store] = Field(
        min_length=1, description="The shops, by a name of your choice."
    )
    routes: dict[Name, Route] = Field(default_factory=dict, description="What goes where, by a name of your choice.")

    _warnings: list[str] = PrivateAttr(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """What is allowed but looks like a mistake, each with its line."""
        return self._warnings

    @field_validator("database")
    @classmethod
    def _database(cls, url: Secret, info: ValidationInfo) -> Secret:
        scheme, _, rest = url.reveal().partition("://")
        if scheme == "sqlite" and len(rest) > 1 and rest.startswith("/") and "?" not in rest and "#" not in rest:
            return Secret(f"sqlite:///{_folder(info) / rest[1:]}")
        if scheme in {"postgresql", "postgres"} and rest and _parses(url.reveal()):
            return Secret(f"postgresql://{rest}")
        raise ValueError("must be sqlite:///FILE or postgresql://user:password@host/name")

    @field_validator("redis")
    @classmethod
    def _redis(cls, url: Secret) -> Secret:
        scheme, _, rest = url.reveal().partition("://")
        if url.reveal() != "embedded" and not (
            scheme in {"redis", "rediss", "unix"} and rest and _parses(url.reveal())
        ):
            raise ValueError("must be embedded or redis://host:6379/0")
        return url

    @field_validator("data_dir")
    @classmethod
    def _data_dir(cls, path: Path, info: ValidationInfo) -> Path:
        return _folder(info) / path

    @model_validator(mode="after")
    def _secrets_differ(self) -> Self:
        owners: dict[str, str] = {}
        problems = []
        for name, store in self.stores.items():
            for index, secret in enumerate(store.webhook_secrets):
                owner = owners.setdefault(secret.reveal(), name)
                if owner != name:
                    text = f"is store {owner}'s too: what is signed for one would be taken by the other; make another"
                    problems.append(inner_problem(("stores", name, "webhook_secrets", index), text))
        raise_inner("stores", problems)
        return self

    @model_validator(mode="after")
    def _stores_exist(self) -> Self:
        for route in self.routes.values():
            _known_stores(route.stores, self.stores)
        return self

    @model_validator(mode="after")
    def _can_fetch(self) -> Self:
        """A condition on the store's objects needs the key to every store of its route."""
        problems = []
        for name, route in self.routes.items():
            keyless = [store for store in route.stores or self.stores if self.stores[store].api_key is None]
            if route.judged_later and keyless:
                assert route.condition is not None
                about = ", ".join(sorted(route.condition.fetched))
                text = f"names {about}, so the store is asked: set stores.{keyless[0]}.api_key, or limit `stores`"
                problems.append(inner_problem(("routes", name, "when"), text))
        raise_inner("routes", problems)
        return self

    @model_validator(mode="after")
    def _alert_routes_exist(self) -> Self:
        named: list[tuple[Place, str]] = [(("alerts", index), name) for index, name in enumerate(self.alerts)]
        for route, terms in self.routes.items():
            named += [(("routes", route, "alerts", index), name) for index, name in enumerate(terms.alerts or ())]
        raise_inner(
            "alerts",
            [
                inner_problem(place, f"no route named {shortened(name)}{near(name, self.routes)}")
                for place, name in named
                if name not in self.routes
            ],
        )
        return self

    @property
    def sqlite_path(self) -> Path | None:
        """The database's file, or None for PostgreSQL."""
        scheme, _, path = self.database.reveal().partition(":///")
        return Path(path) if scheme == "sqlite" else None

    @property
    def redis_url(self) -> str | None:
        """The Redis to use, or None for the embedded one."""
        return None if self.redis.reveal() == "embedded" else self.redis.reveal()

    def secrets(self) -> list[str]:
        """Every secret of the file and of the connectors' settings, and the passwords in URLs, for redaction."""
        found = {value.reveal() for _, value in _leaves(self) if isinstance(value, Secret)}
        addresses = {self.database.reveal(), self.redis.reveal()}
        passwords = {urlsplit(address).password or "" for address in addresses if "://" in address}
        found = (found - addresses) | passwords | {unquote(password) for password in passwords}
        return sorted(found - {""})


def _known_stores(stores: Iterable[str] | None, known: Iterable[str] | None) -> None:
    raise_inner(
        "stores",
        [
            inner_problem((index,), f"no store named {shortened(store)}{near(store, known or ())}")
            for index, store in enumerate(stores or ())
            if store not in (known or ())
        ],
    )


def _folder(info: ValidationInfo) -> Path:
    return (info.context or {}).get("folder") or Path.cwd()


def _parses(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every plain value in models, mappings and sequences, with its place."""
    items: list[tuple[Any, Any]]
    if isinstance(value, BaseModel):
        names = {name: field.alias or name for name, field in type(value).model_fields.items()}
        items = [(names.get(name, name), item) for name, item in value]
    elif isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple | set | frozenset):
        items = [(index, item) for index, item in enumerate(value)]
    else:
        yield place, value
        return
    for step, item in items:
        yield from _leaves(item, (*place, step))


def _compile_templates(settings: Connector.Settings) -> None:
    problems = []
    for place, value in _leaves(settings):
        if isinstance(value, Template):
            try:
                compile_template(value)
            except TemplateError as error:
                problems.append(inner_problem(place, str(error)))
    raise_inner("settings", problems)


def _beside(settings: Connector.Settings, folder: Path) -> Connector.Settings:
    paths = {name: folder / value for name, value in settings if isinstance(value, Path)}
    return settings.model_copy(update=paths) if paths else settings


def load_config(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """The config in the file at `path`; `environ` (default: the process's) and `.env` beside it fill in `${NAME}`.

    Raises ConfigError with every problem: `config.yaml:12: routes.big-orders.timeout: what to do`.
    """
    file = read_yaml(path, os.environ if environ is None else environ)
    raw = {} if file.value is None else file.value
    stores = raw.get("stores") if isinstance(raw, dict) else None
    context = {"folder": path.resolve().parent, "stores": list(stores) if isinstance(stores, dict) else []}
    try:
        config = Config.model_validate(raw, context=context)
    except ValidationError as error:
        raise ConfigError(*problem_lines(file, error, Config)) from None
    config.warnings.extend(_doubts(config, file))
    return config


def _doubts(config: Config, file: YamlFile) -> Iterator[str]:
    """What connectors doubt of their settings, and patterns that match no known type but nearly do.

    Unknown types are kept, so they are no mistake as such.
    """
    groups = {f"{kind.partition('.')[0]}.*" for kind in EVENT_TYPES}
    for name, route in config.routes.items():
        yield from (file.at(("routes", name, "settings"), doubt) for doubt in route.settings.doubts())
        for index, pattern in enumerate(route.events):
            place = ("routes", name, "events", index)
            if pattern.startswith("hub."):
                yield file.at(place, "matches nothing: the hub's own events go only to the routes named for them")
            elif pattern not in groups.union(EVENT_TYPES):
                like = get_close_matches(pattern, groups if pattern.endswith(".*") else EVENT_TYPES, 1, 0.8)
                if like:
                    yield file.at(place, f"{shortened(pattern)} is no known type; did you mean {like[0]}?")
        keyless = [store for store in route.stores or config.stores if config.stores[store].api_key is None]
        if route.fetches and keyless:
            yield file.at(
                ("routes", name, "with"), f"nothing is fetched from {', '.join(keyless)}: api_key is not set there"
            )
    yield from _alert_doubts(config, file)


def _alert_doubts(config: Config, file: YamlFile) -> Iterator[str]:
    """Routes of whose trouble nobody would be told, and alerts that go where none can be read."""
    for name, route in config.routes.items():
        if route.alerts and set(route.alerts) == {name}:
            yield file.at(
                ("routes", name, "alerts"), "of this route's own trouble nobody is told: name another one too"
            )
    for index, name in enumerate(config.alerts):
        if config.routes[name].connector_class.reads_state:
            yield file.at(
                ("alerts", index), f"{name} acts on the store's orders or products; an alert is about neither"
            )


@lru_cache(maxsize=256)
def find_connector(name: str) -> type[Connector]:
    """The class of the connector installed as `name`, or at `package.module:Class`, for one being written.

    Only the named one is imported. Raises ConfigError: no such name, its import failed, or it is no connector.
    """
    point = EntryPoint(name, name, CONNECTORS) if ":" in name else _installed(name)
    try:
        found = point.load()
    except Exception as error:
        reason = f"{type(error).__name__}: {shortened(str(error), 200)}"
        raise ConfigError(f"connector {shortened(name)}: {point.value} cannot be imported: {reason}") from error
    if not (isinstance(found, type) and issubclass(found, Connector)):
        raise ConfigError(f"connector {shortened(name)}: {point.value} is not a Connector")
    if inspect.isabstract(found):
        raise ConfigError(f"connector {shortened(name)}: {point.value} has no deliver")
    return found


def _installed(name: str) -> EntryPoint:
    points = entry_points(group=CONNECTORS)
    found = list(points.select(name=name))
    if not found:
        raise ConfigError(f"no connector named {shortened(name)} is installed{near(name, sorted(points.names))}")
    if len(found) > 1:
        packages = " and ".join(sorted(point.dist.name if point.dist else point.value for point in found))
        raise ConfigError(
            f"connector {shortened(name)} is installed twice, by {packages}: uninstall one, or name the class itself: "
            f"{' or '.join(sorted(point.value for point in found))}"
        )
    return found[0]


def route_fingerprint(route: Route) -> str:
    """8 hex digits that change with the connector or any of its settings, secrets included."""
    settings = [
        (place, value.reveal() if isinstance(value, Secret) else str(value)) for place, value in _leaves(route.settings)
    ]
    text = json.dumps([route.connector, sorted(settings, key=repr)])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def config_schema() -> dict[str, Any]:
    """The file's JSON schema, for editors."""
    return Config.model_json_schema()

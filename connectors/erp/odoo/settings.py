"""What a route with `connector: erp` holds under `settings.odoo`."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from connectors.reach import web_address
from hub.connector import Connector, Secret, Template

OWN_COLUMNS = {"id", ".id", "order_line", "child_ids"}


class OdooFields(Connector.Settings):
    """Columns of Odoo by their names, each with a template: added to what is written, or in place of it.

    A name is one of Odoo's importer: `team_id/.id` takes a number, `team_id/id` an external id, `team_id` a name.

    Templates name `order`, and `line`, `customer`, `product` or `address` where they stand for one.
    """

    order: Annotated[dict[str, Template], Field(description="Of sale.order.")] = Field(default_factory=dict)
    line: Annotated[dict[str, Template], Field(description="Of sale.order.line.")] = Field(default_factory=dict)
    customer: Annotated[dict[str, Template], Field(description="Of res.partner.")] = Field(default_factory=dict)
    address: Annotated[dict[str, Template], Field(description="Of a delivery address.")] = Field(default_factory=dict)
    product: Annotated[dict[str, Template], Field(description="Of product.product.")] = Field(default_factory=dict)

    @field_validator("*")
    @classmethod
    def _not_by_what_they_are_known(cls, columns: dict[str, Template]) -> dict[str, Template]:
        for name in columns:
            if name.partition("/")[0] in OWN_COLUMNS or not name.strip() or not name.isprintable():
                raise ValueError(f"{name!r} is no column that can be set: records are found again by it")
        return columns


class OdooSettings(Connector.Settings):
    """An Odoo server and how records are matched there."""

    url: Annotated[str, Field(description="The server's address.")]
    api_key: Annotated[Secret, Field(description="Of a user of its own: Preferences, Account Security, New API Key.")]
    login: Annotated[str | None, Field(description="That user's login; needed before Odoo 19.")] = None
    database: Annotated[str | None, Field(description="Where the server has several, or before Odoo 19.")] = None
    protocol: Annotated[
        Literal["auto", "json-rpc"],
        Field(description="auto: JSON-2 where the server has it; json-rpc: the older way, which needs `login` too."),
    ] = "auto"
    company: Annotated[str | None, Field(description="The company's name, where there are several.")] = None
    customers: Annotated[
        Literal["email", "own"],
        Field(description="email: whoever has that address already is taken; own: each gets a contact of the store's."),
    ] = "email"
    products: Annotated[
        Literal["sku", "barcode"], Field(description="What a product is found by: internal reference or barcode.")
    ] = "sku"
    missing_products: Annotated[
        Literal["create", "refuse"], Field(description="What becomes of a product that Odoo does not have.")
    ] = "create"
    pricelists: Annotated[
        dict[str, str], Field(description="The price list for a currency, by its name; left out: found by currency.")
    ] = Field(default_factory=dict)
    fields: Annotated[OdooFields, Field(description="Further columns, by templates.")] = OdooFields()

    @field_validator("url")
    @classmethod
    def _web_address(cls, url: str) -> str:
        if web_address(url) is None:
            raise ValueError("must be a whole address that starts with https:// or http://")
        return url.rstrip("/")

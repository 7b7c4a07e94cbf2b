"""What a route with `connector: erp` may hold under `settings`; which ERP it is, and what is done alike in all."""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from connectors.erp.odoo.settings import OdooSettings
from connectors.erp.rest.settings import RestSettings
from hub.connector import Connector


class Settings(Connector.Settings):
    """One of `odoo` and `rest`, and how orders, products and customers are carried over."""

    odoo: Annotated[OdooSettings | None, Field(description="An Odoo server, version 14 or newer.")] = None
    rest: Annotated[RestSettings | None, Field(description="Any ERP with a JSON REST API.")] = None
    confirm: Annotated[
        Literal["never", "on order.placed", "on payment.completed"],
        Field(description="When a quotation becomes an order: at once, once it is paid, or by hand in the ERP."),
    ] = "on payment.completed"
    taxes: Annotated[
        Literal["erp", "as sold"],
        Field(
            description="erp: the ERP's own taxes are worked out there. as sold: none there, the store's tax is a row."
        ),
    ] = "erp"
    discounts: Annotated[
        Literal["row", "percent"],
        Field(description="An order's discount as a row of its own, or shared out to the rows in percent."),
    ] = "row"
    shipping_sku: Annotated[str, Field(description="The product that shipping is sold as.", min_length=1)] = "SHIPPING"
    discount_sku: Annotated[str, Field(description="The product of discount rows.", min_length=1)] = "DISCOUNT"
    tax_sku: Annotated[str, Field(description="The product of tax rows.", min_length=1)] = "TAX"
    notes: Annotated[bool, Field(description="Write payments and refunds beside the order.")] = True
    write_back: Annotated[
        Literal["none", "tag", "comment"],
        Field(
            description="Put the ERP's number on the store's order: as a tag (v2 alone), or as its comment where that "
            "is empty or was ours."
        ),
    ] = "none"

    @field_validator("shipping_sku", "discount_sku", "tax_sku")
    @classmethod
    def _printable(cls, sku: str) -> str:
        if not sku.isprintable() or sku != sku.strip():
            raise ValueError("must be plain text without spaces around it")
        return sku

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.odoo is None) == (self.rest is None):
            raise ValueError("name one ERP: `odoo` or `rest`")
        return self

    @model_validator(mode="after")
    def _done_by_rest(self) -> Self:
        """What is asked for is described: nothing is left undone in silence."""
        if self.rest is not None and self.rest.confirm is None and self.confirm != "never":
            raise ValueError(f"`confirm` is {self.confirm}: describe it in rest.confirm, or set `confirm: never`")
        if self.rest is not None and self.rest.note is None and self.notes:
            raise ValueError("`notes` are to be written: describe it in rest.note, or set `notes: false`")
        return self

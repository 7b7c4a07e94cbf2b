"""A server that keeps the contract of Frappe's REST API, as far as docs/erp/erpnext.yaml uses it.

Written from Frappe's documentation and source: there is no ERPNext in it. Statuses, `exc_type`, `_server_messages`
and `docstatus` are Frappe's; that `litekart_order_id` is unique is the Custom Field that the recipe asks for.
"""

import json
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from hub.testing import Answer, HttpSink, Received

KEY = "token erpnext-canary-key:erpnext-canary-secret"
MANDATORY = {
    "Customer": ("customer_name",),
    "Item": ("item_code", "item_group", "stock_uom"),
    "Sales Order": ("customer", "delivery_date", "items"),
    "Comment": ("reference_doctype", "reference_name"),
}
SERIES = {"Sales Order": "SAL-ORD-2026-{:05}", "Comment": "{:010}"}


class Frappe(Exception):
    """An error as Frappe answers it."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        told = json.dumps([json.dumps({"message": message, "title": "Message", "indicator": "red"})])
        self.answer = _json(
            {"exc_type": kind, "exception": f"frappe.exceptions.{kind}: {message}", "_server_messages": told}, status
        )


class ErpNext(HttpSink):
    """`documents` are what it holds, by doctype and name."""

    def __init__(self) -> None:
        super().__init__()
        self.documents: dict[str, dict[str, dict[str, Any]]] = {doctype: {} for doctype in MANDATORY}

    async def respond(self, request: Received) -> Answer:
        try:
            if request.headers.get("authorization") != KEY:
                raise Frappe(401, "AuthenticationError", "Authentication failed")
            assert request.headers["accept"] == "application/json"
            parts = urlsplit(request.path)
            return self._routed(request, [unquote(step) for step in parts.path.split("/")[2:]], parse_qs(parts.query))
        except Frappe as error:
            return error.answer

    def _routed(self, request: Received, steps: list[str], query: dict[str, list[str]]) -> Answer:
        match (request.method, *steps):
            case ("GET", "method", "frappe.auth.get_logged_user"):
                return _json({"message": "litekart@example.com"})
            case ("POST", "method", "frappe.client.cancel"):
                named = request.json()
                return _json({"message": self._cancelled(self._one(named["doctype"], named["name"]))})
            case ("GET", "resource", doctype):
                return _json({"data": self._listed(doctype, query)})
            case ("POST", "resource", doctype):
                return _json({"data": self._made(doctype, request.json())})
            case ("GET", "resource", doctype, name):
                return _json({"data": self._one(doctype, name)})
            case ("PUT", "resource", doctype, name):
                return _json({"data": self._changed(doctype, self._one(doctype, name), request.json())})
        raise Frappe(404, "DoesNotExistError", "Not found")

    def _one(self, doctype: str, name: str) -> dict[str, Any]:
        if name not in self.documents.get(doctype, {}):
            raise Frappe(404, "DoesNotExistError", f"{doctype} {name} not found")
        return self.documents[doctype][name]

    def _listed(self, doctype: str, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        wanted = json.loads(query["filters"][0])
        fields = json.loads(query["fields"][0])
        found = [
            document
            for document in self.documents[doctype].values()
            if all(document.get(field) == value for field, _, value in wanted)
        ]
        return [{field: document.get(field) for field in fields} for document in found[:20]]

    def _made(self, doctype: str, given: dict[str, Any]) -> dict[str, Any]:
        held = self.documents[doctype]
        for field in MANDATORY[doctype]:
            if not given.get(field):
                raise Frappe(417, "MandatoryError", f"[{doctype}]: {field}")
        name = SERIES.get(doctype, "{}").format(len(held) + 1)
        name = given.get("item_code") or given.get("customer_name") or name
        if doctype == "Item" and name in held:
            raise Frappe(409, "DuplicateEntryError", f"Item <b>{name}</b> already exists")
        while name in held:
            name += " - 1"
        if doctype == "Sales Order":
            self._check_order(given)
        held[name] = {"docstatus": 0, **given, "name": name}
        self._totalled(held[name])
        return held[name]

    def _check_order(self, given: dict[str, Any]) -> None:
        orders = self.documents["Sales Order"].values()
        if any(order["litekart_order_id"] == given["litekart_order_id"] for order in orders):
            raise Frappe(417, "UniqueValidationError", "litekart_order_id must be unique")
        if given["customer"] not in self.documents["Customer"]:
            raise Frappe(417, "LinkValidationError", f"Could not find Customer: {given['customer']}")
        for row in given["items"]:
            if row["item_code"] not in self.documents["Item"]:
                raise Frappe(417, "LinkValidationError", f"Could not find Item Code: {row['item_code']}")
            if isinstance(row["rate"], str) or row["rate"] < 0:
                raise Frappe(417, "ValidationError", "Rate cannot be negative")

    def _changed(self, doctype: str, document: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        if document["docstatus"] == 2 or (document["docstatus"] == 1 and set(given) - {"docstatus"}):
            raise Frappe(417, "UpdateAfterSubmitError", "Not allowed to change <b>items</b> after submission")
        document |= given
        self._totalled(document)
        return document

    @staticmethod
    def _cancelled(document: dict[str, Any]) -> dict[str, Any]:
        if document["docstatus"] != 1:
            raise Frappe(417, "DocstatusTransitionError", "Cannot change docstatus from 0 (Draft) to 2 (Cancelled)")
        document["docstatus"] = 2
        return document

    @staticmethod
    def _totalled(document: dict[str, Any]) -> None:
        rows = document.get("items", [])
        document["grand_total"] = sum(row["qty"] * row["rate"] for row in rows) - document.get("discount_amount", 0)


def _json(document: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode(), {"content-type": "application/json"})

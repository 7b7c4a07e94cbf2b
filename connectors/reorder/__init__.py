"""Orders from suppliers what runs low in a store: by mail, as JSON, or as a purchase order of an ERP."""

from connectors.reorder.connector import Reordering

__all__ = ["Reordering"]

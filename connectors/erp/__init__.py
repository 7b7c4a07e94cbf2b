"""Carries customers, products and sales orders of a store into an ERP."""

from connectors.erp.connector import Erp

__all__ = ["Erp"]

"""Carries customers, products and sales orders of a store into an ERP."""

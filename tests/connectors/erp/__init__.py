"""The ERP connector."""

"""Any ERP with a JSON REST API, described in the config: what is called for what, and how its answers read."""

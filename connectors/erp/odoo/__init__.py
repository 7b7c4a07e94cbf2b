"""Odoo, 14 and newer: by JSON-2 where the server has it (19), else by JSON-RPC."""

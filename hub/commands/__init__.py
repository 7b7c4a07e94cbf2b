"""The commands behind `hub`, each a plain function; hub/cli.py is the table that names them."""

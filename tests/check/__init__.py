"""What `make check` runs beside ruff and mypy."""

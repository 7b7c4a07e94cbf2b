"""Tests against real ERPs, which need packages that `make test` does without: `make test-erp` starts them."""

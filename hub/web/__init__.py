"""The hub's own HTTP: receiving webhooks, and the local socket that commands talk to."""

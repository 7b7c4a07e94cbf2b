"""The hub's own HTTP: receiving webhooks, the local socket that commands talk to, and the dashboard."""

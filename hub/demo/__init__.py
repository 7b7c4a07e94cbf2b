"""`hub demo`: a whole hub with real counterparts on loopback, and a store that sends it events of all eight types.

It runs as `python -m hub.demo`, so that what only the demo needs is loaded by no other command.
"""

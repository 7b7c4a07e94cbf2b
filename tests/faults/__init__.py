"""Faults on purpose: what the hub answered for is delivered whatever breaks. `make faults` runs them all.

hub.py starts a hub with a failpoint or without one of its safeguards; ledger.py keeps the books and compares them;
stage.py sets up a hub and its counterparts; the cases stand in files of their own, named in catalogue.py.
"""

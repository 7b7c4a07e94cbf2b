"""What strangers, stores and destinations may try, each attack with the number that it has in the project's list.

Where the whole of a table takes long, `make test` takes a sample of it, and CI all (tests.whole).
"""

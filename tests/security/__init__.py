"""What strangers, stores and destinations may try, each attack with the number that it has in the project's list.

Where the whole of a table takes long, `make test` takes a sample of it, the same each time, and CI all (`WHOLE=1`).
"""

import os

WHOLE = os.environ.get("WHOLE") == "1"

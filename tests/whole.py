"""What `make test` leaves out or takes a sample of, the same each time, because it takes long: CI runs it whole."""

import os

import pytest

WHOLE = os.environ.get("WHOLE") == "1"

at_length = pytest.mark.skipif(not WHOLE, reason="takes long: WHOLE=1 runs it, as CI does")

"""The tests: real parts over loopback; doubles only at the outer edge (`hub.testing`)."""

import pytest

# Before anything imports it: the kit's asserts show their values, as those of the tests do.
pytest.register_assert_rewrite("hub.testing.conformance")

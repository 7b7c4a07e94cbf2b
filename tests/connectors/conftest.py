"""The kit's asserts show their values, as those of the tests beside it do."""

import pytest

pytest.register_assert_rewrite("hub.testing.conformance")

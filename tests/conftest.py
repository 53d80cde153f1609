"""What all tests share: a real control plane, a real PostgreSQL, and a last word on what could not run."""

import pytest

# A helper's assertion that fails is to show its values, as a test's own does.
pytest.register_assert_rewrite("tests.support", "tests.acceptance", "tests.controlplane_suite", "tests.e2e.support")

pytest_plugins = ["tests.support.needs", "tests.controlplane.fixtures", "tests.support.postgres"]

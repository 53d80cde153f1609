"""What all tests share: a real control plane, a real PostgreSQL, and a last word on what could not run."""

pytest_plugins = ["tests.support.needs", "tests.controlplane.fixtures", "tests.support.postgres"]

"""Fixtures that all tests share: a real control plane and a real PostgreSQL."""

pytest_plugins = ["tests.controlplane.fixtures", "tests.support.postgres"]

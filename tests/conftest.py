"""Fixtures that all tests share; the control plane's own are in tests.controlplane.fixtures."""

pytest_plugins = ["tests.controlplane.fixtures"]

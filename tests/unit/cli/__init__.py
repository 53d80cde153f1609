"""Tests of receiver.cli."""

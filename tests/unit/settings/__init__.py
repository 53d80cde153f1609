"""Tests of receiver.settings."""

"""Tests of receiver.serve."""

"""The tests of striv-receiver."""

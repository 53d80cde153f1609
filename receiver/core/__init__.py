"""Decisions, pure: what a push means, whether it is wanted, and what its run looks like.

Everything here is a function of its arguments. No I/O, no clock, no environment, no logging: time and files
come in as values, and what should happen goes out as values. So each rule can be read, and tested, alone.
"""

"""`python -m receiver` is the command `receiver`."""

from receiver.cli import main

main()

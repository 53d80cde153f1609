"""How fast the receiver is, and beside what: programs that measure, none of them a part of the receiver."""

"""The books of a node's cache: pure values and decisions. No I/O, no clock: the time is an argument."""

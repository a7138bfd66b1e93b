"""`make bench NAME=batching`."""

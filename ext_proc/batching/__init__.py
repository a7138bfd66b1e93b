"""Batching, pure: calls of different clients to one model share a trip to its server, within the lag each accepts."""

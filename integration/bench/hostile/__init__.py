"""The hostile benchmark: what healthy calls feel of a peer that does its worst, and what is left of it in memory."""

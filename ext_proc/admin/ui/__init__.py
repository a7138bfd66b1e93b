"""The dashboard: a page at /ui of the admin port, and the stream of what it shows."""

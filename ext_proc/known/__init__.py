"""Known calls: the map by which Envoy sends calls to their nodes without asking the server, and its file."""

"""The benchmark of the map of known calls: what its changes cost Envoy, and the calls that go on meanwhile."""

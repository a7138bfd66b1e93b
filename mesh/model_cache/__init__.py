"""The model cache of one node: which models are loaded, which have to go, and who waits for what."""

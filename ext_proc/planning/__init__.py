"""Planning, pure: what batches of a model cost, and what that leaves to choose between throughput and lag."""

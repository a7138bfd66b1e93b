"""`tbms policies`: Kuma's policies, written and checked."""

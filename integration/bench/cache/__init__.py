"""The cache benchmark.

- `trace`: the calls and the models of a case
- `fleet`: a case in virtual time, over `timed_peers`; which models move when a node leaves
- `hit_shares`: what the fleet reached, and what caches of known size would reach
- `cold_loads`: hits on a real node beside loads
- `wide_model`: models whose calls and loads take what is said
- `map_cost`: memory and look-ups of router and cache map
"""

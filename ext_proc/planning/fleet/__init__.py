"""A recorded fleet in virtual time, as it was and changed: what `tbms replay` tells of a recording of calls.

- `profile`: what a recording says of its fleet, of how long calls and loads take, and of what was reached
- `change`: what is to be another one
- `simulation`: the calls again, before the router, the books of the caches and the races that a real fleet has
- `cache_node`: one node's cache around its real books
- `device`: one node's device, behind the real scheduler of batches
- `rules`: what edges are not told of how nodes work
- `events`: what is to happen, in the order of time
- `figures`: what came of it
- `lru_curve`: the hit share of one cache of any size, exactly
"""

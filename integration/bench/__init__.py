"""Benchmarks: `python -m integration.bench NAME`, one package each with a `benchmark.measure()`.

- `routing`: what the way through tbms costs
- `deadline`: answers by the limit, and what they cost
- `cache`: hit shares, moved models, loads beside hits, the cache map
- `open_loop`, `cpu`: the load generator and the CPU meter that they share

integration/README.md says how each one measures.
"""

"""The recording of an edge's calls, for `tbms replay`: what was asked when, where it went, and what became of it.

- `calls`: one call, one fleet (values)
- `blocks`: the bytes of a file, in blocks of columns (pure)
- `files`: a folder of files that is bounded in bytes and number
- `recorder`: what an edge decides, hears and races, as calls (pure)
- `recording`: the shell: blocks are written off the event loop

No body, no header, no key and no address of a client is in it: docs/whatif.md says what is.
"""

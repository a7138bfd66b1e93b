"""The deadline benchmark: a seeded `trace` of slow and hanging calls, with and without backups.

`pending_races` takes the CPU of races that wait; `sleeper` how late the machine itself is.
"""

"""The benchmark of what-if for fleets.

- `hour`: an hour of calls as a recording, and how long its replay takes
- `fleets`: fleets of real nodes, one recorded, others foretold and then started
"""

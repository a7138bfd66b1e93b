"""CPU time that a process and its children have used, from /proc (Linux)."""

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of `pid` and of its descendants, ended ones that were waited for included."""
    stats = _stats()
    family, used = [pid], 0
    while family:
        member = family.pop()
        if member not in stats:
            continue
        used += sum(stats[member][1])
        family += [child for child, (parent, _) in stats.items() if parent == member]
    return used / _TICKS


def _stats() -> dict[int, tuple[int, tuple[int, ...]]]:
    """Of every process: its parent, and utime, stime, cutime, cstime in ticks (proc_pid_stat(5), fields 4, 14-17)."""
    stats = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        stats[int(entry.name)] = (int(fields[1]), tuple(int(field) for field in fields[11:15]))
    return stats

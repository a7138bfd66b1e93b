"""Whether a process grows: its memory and its open files, sampled over a soak (Linux)."""

import os
import statistics
from dataclasses import dataclass, field
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MIB = 1 << 20
# A process takes what it needs in the first part of its life; after that a leak shows.
_SETTLED = 0.3


@dataclass
class Growth:
    """Samples of one process, a new one after each of its restarts."""

    pid: int = 0
    memory: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def sample(self, pid: int) -> None:
        """Looks at the process; forgets what was seen of another."""
        if pid != self.pid:
            self.pid, self.memory, self.files = pid, [], []
        try:
            self.memory.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / _MIB)
            self.files.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return

    @property
    def mib(self) -> tuple[float, float]:
        """Memory in MiB once settled, and in the end: medians."""
        return _early_and_late(self.memory)

    @property
    def open_files(self) -> tuple[float, float]:
        """The same of open files and sockets."""
        return _early_and_late(self.files)


def _early_and_late(samples: list[float] | list[int]) -> tuple[float, float]:
    if not samples:
        return 0.0, 0.0
    settled = samples[int(_SETTLED * len(samples)) :]
    part = max(1, len(settled) // 4)
    return statistics.median(settled[:part]), statistics.median(settled[-part:])

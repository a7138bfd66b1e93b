"""A test into which a crash of outside software falls has shown nothing: it is skipped, and says so, but only once."""

import time

import pytest

from integration.stack.supervisor import Supervisor

_SECONDS = 1.0  # a process that ends closes its connections before its end can be seen
_LOOK = 0.05


def excuse(report: pytest.TestReport, before: int) -> None:
    """Makes a failure a skip where there was a crash during the test, and it is the first and only one of this process.

    `before` is how many there had been when the test began. After a second one it is our calls that are to be doubted.
    """
    deadline = time.monotonic() + _SECONDS
    Supervisor.look()
    while not Supervisor.crashes and time.monotonic() < deadline:
        time.sleep(_LOOK)
        Supervisor.look()
    if before or len(Supervisor.crashes) != 1:
        return
    (crash,) = Supervisor.crashes
    path, line, _ = report.location
    report.sections.append((f"the {crash.name} that crashed", crash.log))
    report.outcome = "skipped"
    report.longrepr = (path, line or 0, f"Skipped: the real {crash.name} crashed: signal {crash.signal}")

"""`make policies-check`: the policies of this repository are right, and a line counts what was looked at."""

import re
import subprocess
import sys
from pathlib import Path

from tests.ext_proc.kuma.schemas import kuma_schemas

CHECKOUT = Path(__file__).parents[4]
COUNTS = re.compile(
    r"policies-check: (\d+) policies, 3 Kuma versions \(2\.13, 2\.14, 3\.0\), (\d+) sidecar configurations, 0 errors"
)


def test_the_committed_policies_are_right() -> None:
    command = [sys.executable, CHECKOUT / "kuma-policies/check.py"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr
    *notes, counts = ran.stdout.splitlines()
    match = COUNTS.fullmatch(counts)
    assert match is not None, counts
    assert int(match[1]) > 100
    assert int(match[2]) == 23
    # What was not looked at is said.
    assert any("no document was held against one" in note for note in notes) == (kuma_schemas() is None)

"""Free ports: none is given twice, here or by another process that lives."""

import subprocess
import sys

from integration.stack.ports import free_port, free_ports

ANOTHER = "from integration.stack.ports import free_ports\nprint(*free_ports(600), flush=True)\ninput()"


def test_no_port_is_handed_out_twice() -> None:
    with subprocess.Popen([sys.executable, "-c", ANOTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as another:
        assert another.stdout is not None
        theirs = set(map(int, another.stdout.readline().split()))
        ours = {*free_ports(600), free_port()}
        assert len(theirs) == 600
        assert len(ours) == 601
        assert not theirs & ours
        another.communicate(b"\n")

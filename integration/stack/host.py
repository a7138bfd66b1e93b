"""A host of its own on this machine: a network namespace with one address, behind a link that can be cut.

What is sent to a host whose link is cut is lost without a word, as where a machine loses its power. On the loopback
somebody always answers, if only that nobody listens.
"""

import os
import shutil
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

from integration.stack.ports import free_port
from integration.stack.process import Process, ProcessError, output_of

_NETWORK = IPv4Address("198.18.0.0")
"""Of a /15 that is for tests of networks, and that none has (RFC 2544)."""
_MAC = "02:00:00:00:00:02"


class Host:
    """`async with Host(folder)`. `address` is where others reach it. Raises ProcessError where there can be none.

    The kernel ends the namespace, and the link with it, when the last process in it has ended.
    """

    def __init__(self, folder: Path) -> None:
        number = free_port()  # nobody else has it, and there are more networks of four addresses than ports
        self._ours, self.address = (str(_NETWORK + 4 * number + end) for end in (1, 2))
        self._link = f"tbms{number}"
        self._log = folder / f"link-{number}.log"
        self._holder = Process(
            f"host {number}", ["unshare", "--net", "sleep", "infinity"], folder / f"host-{number}.log"
        )

    async def __aenter__(self) -> Self:
        if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare", "nsenter"))):
            raise ProcessError("hosts of their own need root, and the commands ip, unshare and nsenter")
        await self._holder.start(self._is_apart)
        try:
            holder = str(self._holder.pid)
            await self._ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", holder)
            await self._ip("address", "add", f"{self._ours}/30", "dev", self._link)
            await self._ip("link", "set", self._link, "up")
            # Whose the address is stays known when the link is cut: nobody is told that nobody answers.
            await self._ip("neighbour", "replace", self.address, "lladdr", _MAC, "dev", self._link, "nud", "permanent")
            await self._ip("link", "set", "lo", "up", there=True)
            await self._ip("address", "add", f"{self.address}/30", "dev", "eth0", there=True)
            await self._ip("link", "set", "eth0", "address", _MAC, "up", there=True)
        except BaseException:
            self._holder.kill()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._holder.kill()

    @property
    def enter(self) -> tuple[str, ...]:
        """What stands before a command that is to run on this host."""
        return ("nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "--")

    async def cut(self) -> None:
        """Nothing reaches it any more, and nothing comes from it."""
        await self._ip("link", "set", "eth0", "down", there=True)

    async def mend(self) -> None:
        """As before."""
        await self._ip("link", "set", "eth0", "up", there=True)

    async def _ip(self, *words: str, there: bool = False) -> None:
        await output_of("ip", [*(self.enter if there else ()), "ip", *words], self._log)

    async def _is_apart(self) -> bool:
        return os.readlink(f"/proc/{self._holder.pid}/ns/net") != os.readlink("/proc/self/ns/net")

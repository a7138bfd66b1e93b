"""Role: what an edge and a node are to the process that runs them."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from aiohttp.web import AbstractRouteDef
from prometheus_client.registry import Collector

from ext_proc.config import Config
from ext_proc.processing.policy import RequestPolicy


class Role(Protocol):
    """Edge or node: a policy that decides about calls, and all that stands behind it."""

    name: str

    @property
    def policy(self) -> RequestPolicy:
        """Decides about calls. May be used while `running`."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Everything behind the policy works for the length of the block."""

    def reload(self, config: Config) -> None:
        """Takes over what may change without a restart."""

    def leave(self) -> None:
        """The process is about to drain: tell those who would send more."""

    async def left(self) -> None:
        """Returns once they have taken it in, and send no more. Called after `leave`; may take for ever."""

    def routes(self) -> Iterable[AbstractRouteDef]:
        """What the admin port answers beside the usual, while `running`."""

    def status(self) -> dict[str, Any]:
        """For /status."""

    def collectors(self) -> Iterable[Collector]:
        """For /metrics."""

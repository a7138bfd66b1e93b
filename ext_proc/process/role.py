"""Role: what an edge and a node are to the process that runs them."""

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from aiohttp.web import AbstractRouteDef
from prometheus_client.registry import Collector

from ext_proc.access_log.service import Accounts
from ext_proc.admin.documents import ProcessStatus, StatusDocument
from ext_proc.config import Config
from ext_proc.processing.policy import RequestPolicy
from ext_proc.tracing.opening import Tracing


class Role(Protocol):
    """Edge or node: a policy that decides about calls, and all that stands behind it."""

    name: str

    @property
    def policy(self) -> RequestPolicy:
        """Decides about calls. May be used while `running`."""

    @property
    def accounts(self) -> Accounts | None:
        """Who is told of plain calls that have ended; None where nobody asks for it."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Everything behind the policy works for the length of the block."""

    def reload(self, config: Config) -> None:
        """Takes over what may change without a restart."""

    def ready(self) -> bool:
        """Whether what stands behind the policy can do its part. Asked for /readyz."""

    def leave(self) -> None:
        """The process is about to drain: tell those who would send more."""

    async def left(self) -> None:
        """Returns once they have taken it in, and send no more. Called after `leave`; may take for ever."""

    def routes(self) -> Iterable[AbstractRouteDef]:
        """What the admin port answers beside the usual, while `running`."""

    def status(self, process: ProcessStatus) -> StatusDocument:
        """The document of /status: what the process says of itself, and what the role adds."""

    def collectors(self) -> Iterable[Collector]:
        """The role's metrics, for /metrics."""


def role_of(config: Config, clock: Callable[[], float], tracing: Tracing | None = None) -> Role:
    """The role that the configuration asks for. `clock` in seconds, monotonic; `tracing` where calls are traced.

    Only its own modules are imported: a node has no use for the races, nor an edge for the model cache and its clients
    of stores and model servers, which take most of a start.
    """
    if config.node is None:
        from ext_proc.edge.role import EdgeRole

        return EdgeRole(config, clock, tracing)
    from ext_proc.node.role import NodeRole

    return NodeRole(config, config.node, clock, tracing)

"""A server that is killed and started again while calls wait, however long a busy machine takes for that."""

import signal

import httpx

from ext_proc.envoy_config.parts.processor import SERVER_CLUSTER
from integration.stack.sidecar import Sidecar
from tests.integration.node.cache_node import until


async def start_again(agent: Sidecar) -> None:
    """Starts the killed server of an agent whose Envoy has calls that wait for it.

    Envoy asks again some twenty times. Once it has met nobody it stands still until the server is there, so that a slow
    start does not use these up.
    """
    await until(lambda: _has_met_nobody(agent))
    agent.envoy.signal(signal.SIGSTOP)
    try:
        await agent.start_server()
    finally:
        agent.envoy.signal(signal.SIGCONT)


async def _has_met_nobody(agent: Sidecar) -> bool:
    stat = f"cluster.{SERVER_CLUSTER}.upstream_cx_connect_fail"
    async with httpx.AsyncClient(trust_env=False) as admin:
        text = (await admin.get(f"{agent.envoy_admin}/stats?filter=^{stat}$")).text
    return int(text.rpartition(": ")[2]) > 0

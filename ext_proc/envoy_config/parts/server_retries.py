"""How often what goes to the server is tried again. It hides a restart: calls wait, and go on when it listens again.

In a gRPC service such a policy is read anew for each stream, which is a sixth of what asking the server costs Envoy. So
the cluster has it, where the version knows that (docs/decisions/180).
"""

from envoy_data_plane.envoy.config.core.v3 import BackoffStrategy
from envoy_data_plane.envoy.config.core.v3 import RetryPolicy as ServiceRetryPolicy
from envoy_data_plane.envoy.config.route.v3 import RetryPolicy, RetryPolicyRetryBackOff

from ext_proc.envoy_config.parts.text import seconds
from ext_proc.envoy_config.parts.versions import retries_by_cluster

_ON = "connect-failure,refused-stream,reset,unavailable"
_TIMES = 20
_FIRST, _LONGEST = seconds(0.1), seconds(0.5)


def cluster_retries(version: str) -> RetryPolicy | None:
    """That of the cluster; None where the service has it."""
    if not retries_by_cluster(version):
        return None
    back_off = RetryPolicyRetryBackOff(base_interval=_FIRST, max_interval=_LONGEST)
    return RetryPolicy(retry_on=_ON, num_retries=_TIMES, retry_back_off=back_off)


def service_retries(version: str) -> ServiceRetryPolicy | None:
    """That of the gRPC service; None where the cluster has it."""
    if retries_by_cluster(version):
        return None
    back_off = BackoffStrategy(base_interval=_FIRST, max_interval=_LONGEST)
    return ServiceRetryPolicy(retry_on=_ON, num_retries=_TIMES, retry_back_off=back_off)

"""The `node:` section of the configuration: a model cache before the model server of this machine."""

from pydantic import Field

from ext_proc.batching.settings import BatchingSettings
from ext_proc.listen_address import ListenAddress
from mesh.discovery.registration import RegistrationSettings
from mesh.model_cache.settings import CacheSettings
from mesh.model_cache.stores import StoreSettings
from mesh.settings import Settings


class NodeRoleSettings(Settings):
    """The `node` section: what a node caches, where from, and what it tells edges."""

    cache: CacheSettings
    store: StoreSettings
    rest: str = Field(
        "127.0.0.1:8501", min_length=1, description="REST address of the model server; gRPC is `cache.loader.address`."
    )
    publish: ListenAddress | None = Field(
        None,
        description="Where edges follow what this node holds, ip:port; `residency` of the node in their configuration. "
        "Without it only the admin port tells.",
    )
    heartbeat_seconds: float = Field(
        2.0, ge=0.05, le=60, description="How often edges are told that this node lives, if nothing else is to be told."
    )
    hold_seconds: float = Field(
        300.0, gt=0, le=86_400, description="Longest time that a call is held for its model to be loaded."
    )
    batching: BatchingSettings | None = Field(
        None,
        description="Gather calls into batches, which go to the model server through `envoy.egress`. The node's Envoy "
        "has to be rendered with it.",
    )
    registration: RegistrationSettings | None = Field(
        None, description="Tell edges by a service, such as etcd, that this node is there, and take it back at a drain."
    )

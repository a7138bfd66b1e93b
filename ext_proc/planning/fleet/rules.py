"""What edges are not told of how nodes work: settings of their configuration, and the times of batches."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ext_proc.batching.settings import BatchingSettings
from ext_proc.planning.curve import Curve
from ext_proc.planning.fleet.cache_node import CacheRules


@dataclass(frozen=True, slots=True)
class NodeRules:
    """With `batching`, calls of the models of `curves` go to the device in batches; `curves` by model."""

    cache: CacheRules = field(default_factory=CacheRules)
    batching: BatchingSettings | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)

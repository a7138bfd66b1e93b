"""What /status says of the map of known calls."""

from typing import Any

from ext_proc.admin.documents import KnownMapStatus
from ext_proc.known.keeper import MapKeeper


def known_status(keeper: MapKeeper[Any], now: float) -> KnownMapStatus:
    """The map of known calls, as its file says it and as Envoy has it. `now` on the keeper's clock."""
    written = keeper.written
    return {
        "file": str(keeper.path),
        "version": None if written is None else written.version,
        "models": 0 if written is None else written.models,
        "bytes": 0 if written is None else written.bytes,
        "age_seconds": None if written is None else round(now - written.at, 1),
        "envoys_version": keeper.envoys_version,
        "envoys_models": None if keeper.in_force is None else keeper.in_force.models,
        "envoys_bytes": None if keeper.in_force is None else keeper.in_force.bytes,
        "envoys_age_seconds": None if keeper.in_force_since is None else round(now - keeper.in_force_since, 1),
        "taken": keeper.taken,
        "refused": keeper.refused,
        "cause": keeper.away,
    }

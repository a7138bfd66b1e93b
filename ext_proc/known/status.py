"""What /status says of the map of known calls."""

from ext_proc.admin.documents import KnownMapStatus
from ext_proc.known.keeper import MapKeeper


def known_status(keeper: MapKeeper, now: float) -> KnownMapStatus:
    """The map of known calls, as its file says it and as Envoy has it. `now` on the keeper's clock."""
    written = keeper.written
    return {
        "file": str(keeper.path),
        "version": None if written is None else written.version,
        "models": 0 if written is None else written.models,
        "bytes": 0 if written is None else written.bytes,
        "age_seconds": None if written is None else round(now - written.at, 1),
        "envoys_version": keeper.envoys_version,
        "taken": keeper.taken,
        "refused": keeper.refused,
        "cause": keeper.away,
    }

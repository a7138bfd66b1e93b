"""Documents of /status made by hand: as large, and as hostile, as the page has to bear."""

from ext_proc.admin.documents import EdgeDocument, KnownNodeStatus, ModelVersionStatus, NodeDocument, RacesStatus

HOSTILE = "<img src=x onerror=\"document.title='broken'\">"
STATES = ("available",) * 17 + ("loading", "draining", "failed")


def edge(nodes: int, models: int = 0, *, name: str = "node", at: int = 0) -> EdgeDocument:
    """An edge that knows so many nodes, and two holders of each model. `at` counts the looks: calls come in between."""
    ids = [f"{name}-{number:02}" for number in range(nodes)]
    held = {
        f"model-{number:05}": {ids[number % nodes]: "available", ids[(number * 7 + 1) % nodes]: "available"}
        for number in range(models)
    }
    return {
        "role": "edge", "uptime_seconds": 60.0 + at, "draining": False, "config": "tbms.yaml", "streams": 3,
        "calls": {"known": 900 * at, "routed": 100 * at, "answered": 30 * at}, "logs": 1,
        "nodes": [_known(each, number) for number, each in enumerate(ids)],
        "left_out": [], "models": held, "models_not_shown": 0,
        "sources": [
            {
                "name": name, "nodes": nodes, "stale": False, "heard_seconds_ago": 1.0, "down_seconds": None,
                "cause": None, "held_back": [],
            }
        ],
        "ways": {
            "known": 900 * at, "known_share": 0.9,
            "asked": {"decided": {"more": 70 * at}, "raced": {"headers": 30 * at}},
        },
        "races": _races(at),
    }  # fmt: skip


def _known(name: str, number: int) -> KnownNodeStatus:
    return {
        "id": name, "grpc": f"10.0.0.{number}:8500", "rest": None, "zone": "a", "weight": 1.0, "alive": True,
        "cause": None, "load": 1.0, "declared_models": 0,
        "residency": {
            "address": f"10.0.0.{number}:9903", "heard": True, "cause": None, "leaving": False, "free_models": 12.0,
        },
    }  # fmt: skip


def _races(at: int) -> RacesStatus:
    return {
        "in_time": {"yes": 29 * at, "no": at},
        "endings": {"answer": {"primary": 24 * at, "overdue": 5 * at}, "fail": {"deadline": at}},
        "candidates": {"0": {"won": 24 * at, "late": 6 * at}, "1": {"won": 5 * at, "cancelled": at}},
        "seconds": {
            "0": {"bounds": [0.01, 0.025, 0.05], "counts": [4 * at, 18 * at, 2 * at, 0], "sum": 0.4 * at},
            "1": {"bounds": [0.01, 0.025, 0.05], "counts": [0, at, 4 * at, 0], "sum": 0.2 * at},
        },
        "budget_ms": 400.0,
    }


def node(number: int, models: int, at: int = 0) -> NodeDocument:
    """The node of that number among those of `edge`, with so many models."""
    return {
        "role": "node", "uptime_seconds": 60.0 + at, "draining": False, "config": "node.yaml", "streams": 0,
        "calls": {}, "logs": 0,
        "models": [_version(f"model-{number:02}-{each:05}", each, at) for each in range(models)],
        "capacity": {"models": models + 12.0, "disk_bytes": None, "memory_bytes": None},
        "free": {"models": 12.0, "disk_bytes": None, "memory_bytes": None},
        "model_server": "ok", "store_failures": {}, "sessions": 0, "publish": f"10.0.0.{number}:9903",
    }  # fmt: skip


def _version(name: str, number: int, at: int) -> ModelVersionStatus:
    return {
        "model": name, "version": 1, "state": STATES[number % len(STATES)], "pinned": False,
        "in_flight": (number + at) % 11 // 10, "waiting": 0, "disk_bytes": 100 << 20, "memory_bytes": 150 << 20,
        "fetched_bytes": 0, "idle_seconds": 1.0, "state_seconds": 60.0, "cause": "", "attempts": 0,
        "retry_seconds": 0.0, "needs": [],
    }  # fmt: skip

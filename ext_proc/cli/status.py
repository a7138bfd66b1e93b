"""`tbms status`: what each process says of itself, on a few lines."""

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.filesize import decimal

from ext_proc.admin.documents import EdgeDocument, KnownMapStatus, NodeDocument, StatusDocument, WaysStatus
from ext_proc.cli.admin_client import statuses
from ext_proc.cli.output import plain, print_json, share, span


async def show(out: Console, admins: Sequence[str], *, as_json: bool = False) -> None:
    """Prints the status of each port, or all documents by port. Raises TbmsError."""
    told, away = await statuses(admins)
    if as_json:
        print_json(out, dict(told))
    else:
        for name, status in told:
            for line in lines(name, status):
                out.print(plain(line))
    if away is not None:
        raise away


def lines(name: str, status: StatusDocument) -> Iterator[str]:
    """A process in sentences; the first has its name, the others are indented."""
    state = "draining" if status["draining"] else "up"
    yield f"{status['role']} {name}: {state} for {span(status['uptime_seconds'])}, {status['config']}"
    calls = status.get("calls", {})
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(calls.items(), key=lambda each: -each[1]))
    yield f"  calls: {told or 'none yet'}; {status['streams']} in work"
    yield from _edge(status) if status["role"] == "edge" else _node(status)


def _edge(status: EdgeDocument) -> Iterator[str]:
    if (ways := status.get("ways")) is not None:
        yield f"  ways: {ways_line(ways)}"
    if (known := status.get("known")) is not None:
        yield f"  map of known calls: {map_line(known)}"
        if not status.get("logs"):
            yield f"    {_log_closed(status)}"
    yield from _known_off(status)
    nodes = status["nodes"]
    alive, loads = sum(node["alive"] for node in nodes), sum(node["load"] for node in nodes)
    yield f"  nodes: {alive} of {len(nodes)} alive, {loads:g} calls in flight, {len(status['left_out'])} left out"
    yield f"  models held: {len(status['models']) + status['models_not_shown']}"
    for source in status["sources"]:
        if source["stale"]:
            since = "" if source["down_seconds"] is None else f" for {span(source['down_seconds'])}"
            yield f"  source {source['name']}: down{since}: {source['cause']}"


def _log_closed(status: EdgeDocument) -> str:
    if (ways := status.get("ways")) is not None and not ways["known"]:
        return "Envoy's access log is not open yet: the first known call opens it, and is counted then"
    return "Envoy's access log is not open: known calls are not counted"


def ways_line(ways: WaysStatus) -> str:
    """Which ways calls went, in one line: the share that was known, then the others by way and ground."""
    asked = [
        f"{way} {sum(grounds.values())} ({', '.join(f'{ground} {count}' for ground, count in grounds.items())})"
        for way, grounds in ways["asked"].items()
    ]
    known = f"known {ways['known']}"
    if ways["known_share"] is not None:
        known += f" ({share(ways['known_share'])})"
    return ", ".join([known, *asked])


def map_line(known: KnownMapStatus) -> str:
    """The map, as the server has written it and as Envoy has it."""
    if known["version"] is None:
        return "not written yet"
    age = "" if known["age_seconds"] is None else f", {span(known['age_seconds'])} old"
    ours = f"version {known['version']}, {known['models']} models, {decimal(known['bytes'])}{age}"
    if known["taken"] is None:
        return f"{ours}; Envoy does not tell what it has: {known['cause'] or 'it was not asked yet'}"
    if known["taken"]:
        since = known.get("envoys_age_seconds")
        return f"{ours}; in force in Envoy" + ("" if since is None else f" for {span(since)}")
    refused = f", {known['refused']} refused" if known["refused"] else ""
    models = known.get("envoys_models")
    has = "" if models is None else f" ({models} models)"
    return f"{ours}; Envoy has version {known['envoys_version']}{has}{refused}"


def _known_off(status: StatusDocument) -> Iterator[str]:
    if (why := status.get("known_off")) is not None:
        yield f"  map of known calls: none, since {why}"


def _node(status: NodeDocument) -> Iterator[str]:
    states = Counter(model["state"] for model in status["models"])
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    in_flight = sum(model["in_flight"] for model in status["models"])
    yield f"  models: {told or 'none'}; {in_flight} calls and sessions use them"
    yield f"  model server: {status['model_server']}"
    yield from _known_off(status)
    if status["store_failures"]:
        yield f"  store: could not be asked about {len(status['store_failures'])} models"

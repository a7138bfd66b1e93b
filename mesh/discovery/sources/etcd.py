"""The etcd source: one key for each node, listed once and then watched.

Whatever ends a watch (a restart, a compacted revision, a line that is too long) is a failure of the source: it is
asked anew after a pause and lists everything again, which is the one way to a copy that is whole. A watch that is
silent proves nothing, as a member that hangs or has lost its quorum is silent too: so etcd is asked, every
`liveness_seconds`, for a count that needs a quorum, and that count is held against our copy.
"""

import json
from collections.abc import AsyncGenerator
from typing import Any, Literal

from pydantic import Field

from mesh.discovery.etcd_client import EtcdConnection, b64, connected, integer, mapping, prefix_end, unb64
from mesh.discovery.finds import MOST_ENTRIES, Finds, joined
from mesh.discovery.merge import NodeSet
from mesh.errors import MeshError
from mesh.json_http import JsonHttp, JsonLines

MOST_VALUE_BYTES = 64 << 10
"""Of one node's value; a longer one is left out."""
_PAGE = 500  # keys
_DOUBTS = 3  # counts in a row that differ from the copy: the watch has lost something

Copy = dict[bytes, bytes]


class EtcdSettings(EtcdConnection):
    """Nodes that stand in etcd."""

    kind: Literal["etcd"]
    prefix: str = Field(
        "/tbms/nodes/", min_length=1, max_length=1024, description="What the keys of all nodes begin with."
    )
    layout: Literal["tbms", "tfservingcache"] = Field(
        "tbms",
        description="tbms: PREFIX and the node's id, with the node as JSON. tfservingcache: what TF Serving Cache "
        "writes under /service/NAME/, ip:rest_port:grpc_port.",
    )
    liveness_seconds: float = Field(
        1.0, ge=0.1, le=60, description="How long a silent watch is believed before etcd is asked."
    )


class EtcdSource:
    """See `NodeSource`."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._settings = settings
        self._prefix = settings.prefix.encode()
        self._range = {"key": b64(self._prefix), "range_end": b64(prefix_end(self._prefix))}
        self._attempt = 0

    async def snapshots(self) -> AsyncGenerator[NodeSet, None]:
        """See `NodeSource`."""
        self._attempt += 1
        finds = Finds()
        async with connected(self._settings, self._attempt - 1) as http:
            copy, revision = await self._listed(http)
            nodes = nodes_of(copy, self._settings, finds)
            yield nodes
            watch = {"create_request": {**self._range, "start_revision": str(revision + 1)}}
            async with http.stream("POST", "/v3/watch", body=watch) as lines:
                while True:
                    if await self._changed(http, lines, copy):
                        nodes = nodes_of(copy, self._settings, finds)
                    # Said again where nothing is new: so the source counts as up, and young.
                    yield nodes

    async def _listed(self, http: JsonHttp) -> tuple[Copy, int]:
        """All keys, and the revision at which they stood: all pages are read at that of the first."""
        copy: Copy = {}
        revision, begin = 0, self._prefix
        while True:
            asked: dict[str, Any] = {**self._range, "key": b64(begin), "limit": str(_PAGE)}
            if revision:
                asked["revision"] = str(revision)
            page = mapping((await http.send("POST", "/v3/kv/range", asked)).document)
            revision = revision or integer(mapping(page.get("header")).get("revision"))
            found = [entry_of(entry) for entry in page.get("kvs") or ()]
            copy.update(found)
            if len(copy) > MOST_ENTRIES:
                raise MeshError(f"etcd holds more than {MOST_ENTRIES} keys under {self._settings.prefix!r}")
            if not page.get("more") or not found:
                return copy, revision
            begin = found[-1][0] + b"\0"

    async def _changed(self, http: JsonHttp, lines: JsonLines, copy: Copy) -> bool:
        """Brings the copy up to date with what the watch says next, or with the proof that there is nothing to say."""
        for _ in range(_DOUBTS):
            line = await lines.next(self._settings.liveness_seconds)
            if line is not None:
                return self._applied(mapping(line), copy)
            count = mapping((await http.send("POST", "/v3/kv/range", {**self._range, "count_only": True})).document)
            if integer(count.get("count")) == len(copy):
                return False
        raise MeshError("etcd: its watch is silent about keys that are there, or gone")

    def _applied(self, line: dict[str, Any], copy: Copy) -> bool:
        if "error" in line:
            raise MeshError("etcd: it ended the watch with an error")
        result = mapping(line.get("result"))
        if result.get("canceled"):
            compacted = "compact_revision" in result
            raise MeshError("etcd: it ended the watch" + (", its revision was compacted" if compacted else ""))
        before = dict(copy)
        for event in result.get("events") or ():
            change = mapping(event)
            key, value = entry_of(change.get("kv"))
            if change.get("type") == "DELETE":
                copy.pop(key, None)
            else:
                copy[key] = value
        if len(copy) > MOST_ENTRIES:
            raise MeshError(f"etcd holds more than {MOST_ENTRIES} keys under {self._settings.prefix!r}")
        return copy != before


def entry_of(entry: Any) -> tuple[bytes, bytes]:
    """Key and value of what the gateway says of one key. Raises MeshError."""
    fields = mapping(entry)
    value = unb64(fields.get("value"))
    # One byte too many is kept of what is too long: enough to see that it is.
    return unb64(fields.get("key")), value[: MOST_VALUE_BYTES + 1]


def nodes_of(copy: Copy, settings: EtcdSettings, finds: Finds | None = None) -> NodeSet:
    """The nodes among the keys."""
    finds, prefix = finds or Finds(), settings.prefix.encode()
    read = _own if settings.layout == "tbms" else _of_tfservingcache
    for key, value in sorted(copy.items()):
        name = key.removeprefix(prefix).decode("utf-8", "replace")
        try:
            finds.add(read(name, value))
        except (ValueError, RecursionError) as error:
            finds.refuse(name, str(error) if isinstance(error, _NoEntryError) else "the value is not JSON")
    return finds.node_set()


class _NoEntryError(ValueError):
    pass


def _own(name: str, value: bytes) -> dict[str, Any]:
    if len(value) > MOST_VALUE_BYTES:
        raise _NoEntryError(f"the value is longer than {MOST_VALUE_BYTES} bytes")
    fields = json.loads(value)
    if not isinstance(fields, dict):
        raise _NoEntryError("the value is no JSON object")
    if "id" in fields:
        raise _NoEntryError("the value has an id: the key says it")
    return {**fields, "id": name}


def _of_tfservingcache(name: str, value: bytes) -> dict[str, Any]:
    """`10.0.0.3:8093:8100`: address, REST port, gRPC port (its pkg/taskhandler/discovery/etcd)."""
    host, rest, grpc = [*value[:256].decode("utf-8", "replace").rsplit(":", 2), "", ""][:3]
    if not (rest.isdecimal() and grpc.isdecimal() and rest.isascii() and grpc.isascii() and len(rest + grpc) <= 10):
        raise _NoEntryError("the value is not ip:rest_port:grpc_port")
    return {"id": name, "rest": joined(host, int(rest)), "grpc": joined(host, int(grpc))}

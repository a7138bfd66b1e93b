"""What the roles really say on /status, read as the commands read it."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from ext_proc.admin.documents import Amounts, ModelVersionStatus, StatusDocument, read_done, read_status
from ext_proc.errors import TbmsError
from ext_proc.node.role import NodeRole
from ext_proc.process.app import App
from mesh.model_cache.books.states import Room
from mesh.model_cache.books.status import ModelStatus
from tests.mesh.model_cache.cache import Cache, play

EDGE = """
nodes:
  - {id: a, grpc: "127.0.0.1:1", models: [bert]}
  - {id: b, rest: "127.0.0.1:2", residency: "127.0.0.1:3", zone: here}
"""
NODE = """
node:
  store: {url: "file:///models"}
  cache: {folder: /var/lib/tbms, loader: {api: v2, address: "127.0.0.1:8500"}}
"""


def app(folder: Path, text: str) -> App:
    path = folder / "tbms.yaml"
    path.write_text(f"server: {{listen: 'unix:{folder}/tbms.sock'}}\n{text}")
    return App(path)


def told(of: App) -> StatusDocument:
    """The document, by way of the text that is sent."""
    return read_status(json.loads(json.dumps(of._status())))


async def test_an_edge_says_what_its_document_has(tmp_path: Path) -> None:
    edge = app(tmp_path, EDGE)
    async with edge._role.running():
        status, said = told(edge), edge._status()
    assert status["role"] == "edge"
    assert set(status) == set(said)
    assert [set(node) for node in status["nodes"]] == [set(node) for node in said["nodes"]]
    first, second = status["nodes"]
    assert (first["declared_models"], first["residency"]) == (1, None)
    assert second["residency"] is not None
    assert set(second["residency"]) == set(said["nodes"][1]["residency"])
    assert (second["residency"]["address"], second["residency"]["heard"]) == ("127.0.0.1:3", False)
    assert status["models"] == {"bert": {"a": "available"}}
    assert (status["known"]["file"], status["known_off"]) == (f"{tmp_path}/tbms.sock.known.pb", None)


def test_a_node_says_what_its_document_has(tmp_path: Path) -> None:
    async def scenario(cache: Cache) -> None:
        cache.store.put("m")
        async with cache.running() as manager:
            (await manager.ensure("m")).release()
            node = app(tmp_path, NODE)
            assert isinstance(node._role, NodeRole)
            node._role._manager = manager
            status = told(node)
            assert status == node._status() | {"uptime_seconds": status["uptime_seconds"]}
            assert status["role"] == "node"
            assert [(each["model"], each["state"]) for each in status["models"]] == [("m", "available")]
            assert status["capacity"]["models"] is None

    play(tmp_path / "cache", scenario)


def test_the_documents_have_the_fields_of_the_books() -> None:
    assert set(ModelVersionStatus.__annotations__) == {field.name for field in fields(ModelStatus)}
    assert set(Amounts.__annotations__) == {field.name for field in fields(Room)}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (None, "the document: Input should be a valid dictionary or object to extract fields from"),
        ({}, "role: edge or node is expected"),
        ({"role": "gateway"}, "role: edge or node is expected"),
        ({"role": "edge"}, "uptime_seconds: Field required"),
        ({"role": "node", "uptime_seconds": "long"}, "uptime_seconds: Input should be a valid number"),
    ],
)
def test_the_field_at_fault_is_named(document: Any, says: str) -> None:
    with pytest.raises(TbmsError) as caught:
        read_status(document)
    assert str(caught.value) == says


def test_the_answer_to_a_command_names_model_and_version() -> None:
    assert read_done({"model": "m", "version": None, "more": 1}) == {"model": "m", "version": None}
    with pytest.raises(TbmsError, match=r"^version: Field required$"):
        read_done({"model": "m"})

"""Every field of our subset is the real one: same number, same kind, same label, same enum values."""

import json
import subprocess
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor

from integration.peers.tf_client import PYTHON, missing
from mesh.protos import tfs_pb2 as tfs

# Run by the Python that has TensorFlow: prints the descriptors of the real packages.
REAL = """
import json
from google.protobuf import descriptor_pool
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2, named_tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2, get_model_metadata_pb2, get_model_status_pb2, inference_pb2, input_pb2, model_management_pb2,
    model_pb2, predict_pb2, regression_pb2, session_service_pb2, status_pb2)
from tensorflow_serving.config import file_system_storage_path_source_pb2, model_server_config_pb2

messages, enums = {}, {}

def take(message, prefix):
    name = message.full_name.removeprefix(prefix)
    messages[name] = {f.name: [f.number, f.type, f.is_repeated] for f in message.fields}
    for nested in message.nested_types:
        take(nested, prefix)
    for enum in message.enum_types:
        enums[enum.full_name.removeprefix(prefix)] = {v.name: v.number for v in enum.values}

for module in list(globals().values()):
    file = getattr(module, "DESCRIPTOR", None)
    if file is None or not hasattr(file, "message_types_by_name"):
        continue
    for message in file.message_types_by_name.values():
        take(message, file.package + ".")
    for enum in file.enum_types_by_name.values():
        enums[enum.name] = {v.name: v.number for v in enum.values}
code = descriptor_pool.Default().FindEnumTypeByName("tensorflow.error.Code")
enums["Code"] = {v.name: v.number for v in code.values}
print(json.dumps([messages, enums]))
"""


@pytest.fixture(scope="module")
def real() -> tuple[dict[str, Any], dict[str, Any]]:
    if reason := missing():
        pytest.skip(reason)
    output = subprocess.run([PYTHON, "-c", REAL], capture_output=True, check=True, text=True).stdout
    messages, enums = json.loads(output)
    return messages, enums


def _messages(container: Any) -> list[Any]:
    found = []
    for message in container.values():
        found += [message, *_messages(message.nested_types_by_name)]
    return found


OURS = _messages(tfs.DESCRIPTOR.message_types_by_name)


def test_the_subset_is_not_empty() -> None:
    assert len(OURS) > 50


@pytest.mark.parametrize("message", OURS, ids=lambda message: message.full_name)
def test_fields_are_the_real_ones(message: Any, real: tuple[dict[str, Any], dict[str, Any]]) -> None:
    fields = real[0][message.full_name.removeprefix("tbms.tfs.")]
    for field in message.fields:
        number, kind, repeated = fields[field.name]
        assert (field.number, field.is_repeated) == (number, repeated), field.full_name
        carried = kind == FieldDescriptor.TYPE_MESSAGE and field.type == FieldDescriptor.TYPE_BYTES
        assert field.type == kind or carried, field.full_name


@pytest.mark.parametrize("enum", ["DataType", "Code", "ModelVersionStatus.State"])
def test_enum_values_are_the_real_ones(enum: str, real: tuple[dict[str, Any], dict[str, Any]]) -> None:
    outer, _, inner = enum.partition(".")
    ours = getattr(getattr(tfs, outer), inner) if inner else getattr(tfs, outer)
    theirs = real[1][enum]
    assert {name: theirs[name] for name, _ in ours.items()} == dict(ours.items())

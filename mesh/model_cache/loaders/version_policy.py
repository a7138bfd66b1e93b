"""Triton's version policy: which versions of a model it would serve by itself, and how to tell it otherwise."""

from pathlib import Path

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2

from mesh.digits import number
from mesh.model_cache import config_pbtxt
from mesh.model_cache.loaders.loader import LoadFailed


def override(folder: Path, wanted: frozenset[int]) -> str | None:
    """The configuration (JSON) to load a model with, so that exactly the `wanted` versions are served.

    None where the files of the model lead to that by themselves. `folder` is the model's folder. Raises LoadFailed if
    its configuration cannot be read; blocking.
    """
    try:
        config = config_pbtxt.read(folder)
    except config_pbtxt.ConfigFault as fault:
        raise LoadFailed(str(fault)) from fault
    if _served(config, present(folder)) == wanted:
        return None
    config.name = config.name or folder.name
    config.version_policy.specific.versions[:] = sorted(wanted)
    return json_format.MessageToJson(config, preserving_proto_field_name=True, indent=None)


def present(folder: Path) -> frozenset[int]:
    """The versions that have a folder in the model's `folder`; none where that is gone. Blocking."""
    if not folder.is_dir():
        return frozenset()
    names = [child.name for child in folder.iterdir() if child.is_dir()]
    return frozenset(version for name in names if (version := number(name, 19)) is not None)


def _served(config: model_config_pb2.ModelConfig, present: frozenset[int]) -> frozenset[int]:
    policy = config.version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return present
        case "specific":
            return present & set(policy.specific.versions)
        case "latest":
            return frozenset(sorted(present)[-max(policy.latest.num_versions, 1) :])
        case _:
            return frozenset(sorted(present)[-1:])

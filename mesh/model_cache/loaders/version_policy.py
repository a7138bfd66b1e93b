"""Triton's version policy: which versions of a model it would serve by itself, and how to tell it otherwise."""

from pathlib import Path

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from mesh.digits import number
from mesh.model_cache.loaders.loader import LoadFailed
from mesh.small_file import read_small

CONFIG = "config.pbtxt"


def override(folder: Path, wanted: frozenset[int]) -> str | None:
    """The configuration (JSON) to load a model with, so that exactly the `wanted` versions are served.

    None where the files of the model lead to that by themselves. `folder` is the model's folder. Raises LoadFailed if
    its configuration cannot be read; blocking.
    """
    try:
        text = read_small(folder / CONFIG).decode()
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise LoadFailed(f"{CONFIG} cannot be read: {error}") from error
    try:
        config = text_format.Parse(text, model_config_pb2.ModelConfig(), allow_unknown_field=True)
    except text_format.ParseError as error:
        raise LoadFailed(f"{CONFIG} cannot be read: {error}") from error
    folders = [child.name for child in folder.iterdir() if child.is_dir()]
    present = {version for name in folders if (version := number(name, 19)) is not None}
    if _served(config, present) == wanted:
        return None
    config.name = config.name or folder.name
    config.version_policy.specific.versions[:] = sorted(wanted)
    return json_format.MessageToJson(config, preserving_proto_field_name=True, indent=None)


def _served(config: model_config_pb2.ModelConfig, present: set[int]) -> set[int]:
    policy = config.version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            return present
        case "specific":
            return present & set(policy.specific.versions)
        case "latest":
            return set(sorted(present)[-max(policy.latest.num_versions, 1) :])
        case _:
            return set(sorted(present)[-1:])

"""Helpers for Envoy's typed messages: durations, extensions, and YAML that a person can read.

In the YAML names are snake case, fields stand in the order of the types, and short values on one line.
"""

import json
from datetime import timedelta
from typing import Any as Anything

import betterproto2
import yaml
from envoy_data_plane.envoy.config.core.v3 import TypedExtensionConfig
from envoy_data_plane.google.protobuf import Any
from envoy_data_plane.xds.core.v3 import TypedExtensionConfig as XdsTypedExtensionConfig

ONE_LINE = 90


def seconds(value: float) -> timedelta:
    """A duration, as Envoy's types take it."""
    return timedelta(seconds=value)


def extension(name: str, message: betterproto2.Message) -> TypedExtensionConfig:
    """An extension's name and configuration."""
    return TypedExtensionConfig(name=name, typed_config=Any.pack(message))


def xds_extension(name: str, message: betterproto2.Message) -> XdsTypedExtensionConfig:
    """The same for xDS's own types, such as matchers, which have a type of their own for it."""
    return XdsTypedExtensionConfig(name=name, typed_config=Any.pack(message))


def to_yaml(message: betterproto2.Message) -> str:
    """The message as YAML. Fields that have their default value are left out."""
    document = message.to_dict(casing=betterproto2.Casing.SNAKE)
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes a mapping or list that fits into one line as one line, a text of several lines as such a block, and every
    value in full.
    """

    def represent_mapping(self, tag: str, mapping: Anything, flow_style: bool | None = None) -> yaml.MappingNode:
        found: yaml.MappingNode = super().represent_mapping(tag, mapping, _fits(mapping))
        return found

    def represent_str(self, data: str) -> yaml.ScalarNode:
        found: yaml.ScalarNode = self.represent_scalar(
            "tag:yaml.org,2002:str", data, style="|" if "\n" in data else None
        )
        return found

    def represent_sequence(self, tag: str, sequence: Anything, flow_style: bool | None = None) -> yaml.SequenceNode:
        found: yaml.SequenceNode = super().represent_sequence(tag, sequence, _fits(sequence))
        return found

    def ignore_aliases(self, data: Anything) -> bool:
        return True


_Dumper.add_representer(str, _Dumper.represent_str)


def _fits(data: Anything) -> bool:
    return len(json.dumps(data)) <= ONE_LINE

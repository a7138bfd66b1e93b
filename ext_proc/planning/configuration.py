"""The configuration that a plan comes to, as the YAML that a node reads."""

import yaml

from ext_proc.batching.settings import BatchingSettings


def write_batching(settings: BatchingSettings) -> str:
    """The section `node.batching`, with what is not as it is by default, and how many batches run at once."""
    section = settings.model_dump(mode="json", exclude_defaults=True)
    section = {"slots": settings.slots, **section}
    return yaml.safe_dump({"node": {"batching": section}}, sort_keys=False, allow_unicode=True)


def read_batching(text: str) -> BatchingSettings:
    """The settings in what `write_batching` has written."""
    return BatchingSettings.model_validate(yaml.safe_load(text)["node"]["batching"])

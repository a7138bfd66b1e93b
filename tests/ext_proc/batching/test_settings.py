from typing import Any

import pytest
from pydantic import ValidationError

from ext_proc.batching.settings import ModelBatching

IDS = {"input": "ids", "buckets": [32, 64]}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"pad": [IDS | {"buckets": [64, 32]}]}, "the smallest first"),
        ({"pad": [IDS | {"buckets": []}]}, "buckets"),
        ({"pad": [IDS | {"dim": 0}]}, "dim"),
        ({"pad": [IDS, IDS]}, "an input's dimension twice"),
        ({"pad": [IDS], "server_batches": True}, "gathered here"),
        ({"share_protocols": True, "server_batches": True}, "gathered here"),
        ({"pad": [IDS | {"value": float("nan")}]}, "value"),
        ({"allowed_rows": [1, 2]}, "the last of allowed_rows"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ModelBatching(**fields)


def test_values_keep_their_type() -> None:
    model = ModelBatching(pad=[IDS | {"value": value, "dim": dim} for dim, value in enumerate((0, -1, 0.5, "x"), 1)])  # type: ignore[arg-type]
    assert [each.value for each in model.pad] == [0, -1, 0.5, "x"]
    assert [type(each.value) for each in model.pad] == [int, int, float, str]

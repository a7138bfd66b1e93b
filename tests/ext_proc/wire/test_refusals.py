"""What the server refuses is what its Envoys keep from a node while the server is away, and nothing else."""

import re

import pytest

from ext_proc.contract import CONTROL_PATHS
from ext_proc.errors import CallError, Reason
from ext_proc.wire.codecs import GRPC_CODECS
from ext_proc.wire.naming import name_call

REFUSED = [path for codec in GRPC_CODECS.values() for path in codec.refused]
SERVED = [path for codec in GRPC_CODECS.values() for path in codec.methods]
REFUSED_REST = ["/v2/repository/index", "/v2/repository/models/m/load", "/v2/repository/models/m/unload?x=1"]
SERVED_REST = ["/v1/models/m:predict", "/v1/models/m", "/v2/models/m/infer", "/v2/models/repository/infer", "/v2"]


@pytest.mark.parametrize("path", REFUSED + REFUSED_REST)
def test_what_is_refused_is_kept_from_the_nodes(path: str) -> None:
    assert re.fullmatch(CONTROL_PATHS, path)
    with pytest.raises(CallError, match="not open to clients") as caught:
        name_call({":path": path, "content-type": "application/grpc"}, 1000)
    assert caught.value.reason is Reason.DENIED


@pytest.mark.parametrize("path", SERVED + SERVED_REST)
def test_what_is_served_is_not(path: str) -> None:
    assert not re.fullmatch(CONTROL_PATHS, path)
    name_call({":path": path, "content-type": "application/grpc", "x-tbms-model": "m"}, 1000)

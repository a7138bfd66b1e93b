import math

import pytest

from ext_proc.node.caller_deadline import remaining_seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, math.inf),
        ({"tloc": "50;est=35"}, 0.05),
        ({"tloc": "0"}, 0.0),
        ({"grpc-timeout": "2S"}, 2.0),
        ({"x-envoy-expected-rq-timeout-ms": "1500"}, 1.5),
        ({"tloc": "900", "grpc-timeout": "800m", "x-envoy-expected-rq-timeout-ms": "1500"}, 0.8),
        ({"tloc": "soon", "grpc-timeout": "2S"}, 2.0),
        ({"grpc-timeout": "soon", "x-envoy-expected-rq-timeout-ms": "-1"}, math.inf),
        ({"x-envoy-expected-rq-timeout-ms": "9" * 400}, math.inf),
    ],
)
def test_the_least_of_what_the_headers_say(headers: dict[str, str], seconds: float) -> None:
    assert remaining_seconds(headers) == pytest.approx(seconds)

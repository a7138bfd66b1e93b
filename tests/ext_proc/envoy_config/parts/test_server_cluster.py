"""The cluster of the external processor: where it is reached."""

import pytest

from ext_proc.errors import ConfigError
from tests.ext_proc.envoy_config.documents import SOCKET, Document, cluster, edge_document


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (SOCKET, ("STATIC", {"pipe": {"path": "/run/tbms/ext_proc.sock"}})),
        ("127.0.0.1:9000", ("STATIC", {"socket_address": {"address": "127.0.0.1", "port_value": 9000}})),
        ("0.0.0.0:9000", ("STATIC", {"socket_address": {"address": "127.0.0.1", "port_value": 9000}})),
        ("[::]:9000", ("STATIC", {"socket_address": {"address": "::1", "port_value": 9000}})),
        ("tbms.local:9000", ("STRICT_DNS", {"socket_address": {"address": "tbms.local", "port_value": 9000}})),
    ],
)
def test_the_server_is_reached_where_it_listens(server: str, expected: tuple[str, Document]) -> None:
    found = cluster(edge_document(server=server), "tbms_ext_proc")
    (group,) = found["load_assignment"]["endpoints"]
    (host,) = group["lb_endpoints"]
    assert (found["type"], host["endpoint"]["address"]) == expected


@pytest.mark.parametrize("bad", ["", "host", "unix:run/x", "unix:/" + "x" * 107, "a b:80", "::1:80", "1.2.3.4:0"])
def test_a_wrong_server_address_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match="the server's address"):
        edge_document(server=bad)

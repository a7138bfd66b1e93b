"""Which peers a page may be given."""

import pytest
from pydantic import ValidationError

from ext_proc.admin.ui.settings import MAX_PEERS, UiSettings


def test_peers_are_addresses_of_all_kinds() -> None:
    peers = ("10.0.0.3:9902", "[fd00::3]:9904", "node-a.fleet:9904", "unix:/run/tbms/admin.sock")
    assert UiSettings(peers=peers).peers == peers


@pytest.mark.parametrize(
    "peers",
    [
        ["10.0.0.3"],
        ["http://10.0.0.3:9902"],
        ["user:secret@10.0.0.3:9902"],
        ["10.0.0.3:9902/status"],
        ["10.0.0.3:0"],
        ["10.0.0.3:9902", "10.0.0.3:9902"],
        [f"10.0.{each // 250}.{each % 250}:1" for each in range(MAX_PEERS + 1)],
    ],
)
def test_what_is_none_is_refused(peers: list[str]) -> None:
    with pytest.raises(ValidationError):
        UiSettings(peers=tuple(peers))

"""How an admin port is named. What is asked there is tested with the commands that ask it."""

import pytest

from ext_proc.cli.admin_client import base_url
from ext_proc.errors import TbmsError


@pytest.mark.parametrize(("admin", "url"), [("node:1", "http://node:1"), ("http://node:1/", "http://node:1")])
def test_an_admin_port_may_be_written_short(admin: str, url: str) -> None:
    assert base_url(admin) == url


def test_other_schemes_are_refused() -> None:
    with pytest.raises(TbmsError, match="http://host:port"):
        base_url("unix://run/tbms")

"""How an admin port is named. What is asked there is tested with the commands that ask it."""

import pytest
from typer.testing import CliRunner

from ext_proc.admin import DEFAULT_ADDRESS
from ext_proc.cli import admin_client, main
from ext_proc.cli.admin_client import base_url
from ext_proc.config import ServerSettings
from ext_proc.errors import TbmsError


@pytest.mark.parametrize(("admin", "url"), [("node:1", "http://node:1"), ("http://node:1/", "http://node:1")])
def test_an_admin_port_may_be_written_short(admin: str, url: str) -> None:
    assert base_url(admin) == url


def test_other_schemes_are_refused() -> None:
    with pytest.raises(TbmsError, match="http://host:port"):
        base_url("unix://run/tbms")


def test_whoever_names_no_port_is_told_how_where_the_default_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ServerSettings().admin == DEFAULT_ADDRESS
    monkeypatch.setattr(admin_client, "DEFAULT_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(main, "DEFAULT_ADMIN", "http://127.0.0.1:1")
    told = CliRunner().invoke(main.app, ["models"]).exception
    assert "server.admin" in str(told)
    assert "--admin" in str(told)
    named = CliRunner().invoke(main.app, ["models", "--admin", "127.0.0.1:2"]).exception
    assert "cannot be asked" in str(named)
    assert "--admin" not in str(named)

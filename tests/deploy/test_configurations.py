"""Every configuration in deploy/ is valid, and agrees with what stands around it."""

import re

import pytest
import yaml

from ext_proc.cli.envoy_config import bootstrap_for
from ext_proc.config import Config, parse
from mesh.address import parse_address
from tests.deploy.files import DEPLOY, KUMA_DPS_PORTS, configuration, configurations

FILES = configurations()
WITH_AN_ENVOY_OF_OURS = [path for path in FILES if "gateway" in path or path.startswith("compose/")]


def ports(config: Config) -> set[int]:
    texts = [config.server.listen, config.server.admin, config.envoy.admin, config.envoy.egress]
    if config.node is not None and config.node.publish is not None:
        texts.append(config.node.publish)
    return {parse_address(text, listening=True).port for text in texts} - {0}


def test_there_are_some() -> None:
    assert len(FILES) >= 9
    assert {path.split("/")[0] for path in FILES} == {"kubernetes", "systemd", "compose"}


@pytest.mark.parametrize("path", FILES)
def test_tbms_check_takes_it(path: str) -> None:
    parse(FILES[path], path)


@pytest.mark.parametrize("path", FILES)
def test_it_takes_no_port_of_kuma_dp(path: str) -> None:
    config = configuration(path)
    told = {parse_address(config.server.admin, listening=True).port}
    assert (told if path not in WITH_AN_ENVOY_OF_OURS else ports(config)).isdisjoint(KUMA_DPS_PORTS)


@pytest.mark.parametrize("path", FILES)
def test_its_sockets_and_map_share_a_folder_with_envoy(path: str) -> None:
    config = configuration(path)
    listen = parse_address(config.server.listen).path
    assert listen.startswith("/run/tbms")
    if config.node is None or config.known.file is not None:
        assert config.known_file is not None
        assert str(config.known_file.parent) == listen.rpartition("/")[0]


@pytest.mark.parametrize("path", FILES)
def test_commands_of_a_node_stay_on_its_machine(path: str) -> None:
    config = configuration(path)
    if config.node is not None:
        assert parse_address(config.server.admin).is_local


@pytest.mark.parametrize("path", WITH_AN_ENVOY_OF_OURS)
def test_an_envoy_can_be_rendered_for_it(path: str) -> None:
    config = configuration(path)
    assert "static_resources" in yaml.safe_load(bootstrap_for(config, "1.38", config.known_file))


def test_the_image_expects_the_admin_port_that_the_examples_have() -> None:
    (told,) = re.findall(r"TBMS_ADMIN=127\.0\.0\.1:(\d+)", (DEPLOY / "Containerfile").read_text())
    for path in FILES:
        assert str(parse_address(configuration(path).server.admin).port) == told, path

"""The Containerfile agrees with the project; building it takes a machine with docker or podman."""

import re
import tomllib
from pathlib import Path

from tests.deploy.files import DEPLOY

ROOT = DEPLOY.parent
TEXT = (DEPLOY / "Containerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def lines(instruction: str) -> list[str]:
    joined = re.sub(r"\\\n\s*", " ", TEXT)
    return re.findall(rf"^{instruction} (.*)$", joined, re.M)


def test_what_the_wheel_is_made_of_is_copied_and_not_ignored() -> None:
    packages = {name.rstrip("*") for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    wanted = packages | {"pyproject.toml", "setup.py", PROJECT["project"]["readme"], "LICENSE"}
    copied = {word for line in lines("COPY") if "--from" not in line for word in line.split()[:-1]}
    assert copied == wanted
    ignore = (DEPLOY / "Containerfile.dockerignore").read_text().split("\n")
    assert {line[1:] for line in ignore if line.startswith("!")} == wanted
    assert all((ROOT / path).exists() for path in wanted)


def test_its_base_has_a_tag_and_a_python_that_the_project_supports() -> None:
    (base,) = re.findall(r"^ARG PYTHON=(\S+)$", TEXT, re.M)
    match = re.fullmatch(r"docker\.io/library/python:(\d+)\.(\d+)\.\d+-slim-\w+", base)
    assert match is not None
    least = PROJECT["project"]["requires-python"].removeprefix(">=").split(".")
    assert (int(match[1]), int(match[2])) >= (int(least[0]), int(least[1]))
    assert {line.split()[0] for line in lines("FROM")} == {"${PYTHON}"}


def test_it_runs_without_rights_and_says_how_it_is() -> None:
    assert lines("USER") == ["10001:10001"]
    assert lines("ENTRYPOINT") == ['["tbms"]']
    assert "tbms" in PROJECT["project"]["scripts"]
    (check,) = lines("HEALTHCHECK")
    (module,) = re.findall(r"python -m (\S+)", check)
    assert Path(ROOT, *module.split(".")).with_suffix(".py").exists()


def test_its_extras_are_those_of_the_project() -> None:
    for extras in re.findall(r"EXTRAS=([\w,]+)", TEXT):
        assert set(extras.split(",")) <= PROJECT["project"]["optional-dependencies"].keys()

"""A real Prometheus on a free port, and promtool. `integration/setup.sh prometheus` puts Debian's under build/."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from integration.stack.ports import free_port
from integration.stack.process import Process, answers

_BUILT = Path(__file__).parents[2] / "build/prometheus/usr/bin"


def binary(name: str) -> Path:
    """`prometheus` or `promtool`: ours, or the one that is installed. Raises FileNotFoundError."""
    installed = shutil.which(name)
    if not (_BUILT / name).exists() and installed is None:
        raise FileNotFoundError(f"No {name} here: integration/setup.sh prometheus")
    return _BUILT / name if (_BUILT / name).exists() else Path(installed or "")


class Prometheus:
    """`async with Prometheus(folder, targets)`. `targets` are the `host:port` of each job, `rules` files of rules.

    Everything is scraped and evaluated every `seconds`, and exemplars are kept. Raises FileNotFoundError where there is
    none.
    """

    def __init__(
        self, folder: Path, targets: Mapping[str, Sequence[str]], rules: Sequence[Path] = (), seconds: int = 1
    ) -> None:
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}"
        jobs = [{"job_name": job, "static_configs": [{"targets": list(of)}]} for job, of in targets.items()]
        every = f"{seconds}s"
        configuration = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": [str(path) for path in rules],
            "scrape_configs": jobs,
        }
        file = folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(configuration))
        command: list[str | Path] = [
            binary("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}", "--enable-feature=exemplar-storage",
        ]  # fmt: skip
        self.process = Process("Prometheus", command, folder / "prometheus.log")

    async def __aenter__(self) -> "Prometheus":
        await self.process.start(answers(f"{self.url}/-/ready"))
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.process.kill()

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression gives now. Raises ValueError with Prometheus' words for a wrong one."""
        result: list[dict[str, Any]] = (await self._ask("query", {"query": expression}))["result"]
        return result

    async def exemplars(self, selector: str, since: float) -> list[dict[str, Any]]:
        """Those of the series that a selector names, from `since` on (seconds since the epoch)."""
        found = await self._ask("query_exemplars", {"query": selector, "start": str(since), "end": str(since + 3600)})
        return [each for series in found for each in series["exemplars"]]

    async def rules(self) -> list[dict[str, Any]]:
        """Every rule with its health and its state."""
        return [rule for group in (await self._ask("rules", {}))["groups"] for rule in group["rules"]]

    async def _ask(self, what: str, parameters: Mapping[str, str]) -> Any:
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}/api/v1/{what}", params=parameters) as reply:
            document = json.loads(await reply.read())
        if document["status"] != "success":
            raise ValueError(document["error"])
        return document["data"]

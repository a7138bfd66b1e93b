"""An edge whose Envoy takes its nodes from files that somebody else writes, as it would from a control plane.

The server hears of them from Envoy.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ext_proc.cli.envoy_config import lay_map
from ext_proc.config import load
from ext_proc.envoy_config import EnvoySettings, render
from integration.stack.sidecar import Section, Sidecar


class KnownToEnvoy(Sidecar):
    """`endpoints` is the folder of the files (`update_endpoint_files`), which are there when it starts."""

    def __init__(
        self,
        folder: Path,
        endpoints: Path,
        *,
        sections: Mapping[str, Section | Sequence[Any]] | None = None,
        poll_seconds: float = 1.0,
    ) -> None:
        super().__init__(folder, [], sections=sections)
        section = {"kind": "envoy", "admin": self.envoy_admin.removeprefix("http://"), "poll_seconds": poll_seconds}
        self.put("discovery", [{**section, "grpc": "models_grpc", "rest": "models_rest"}])
        self._endpoints = endpoints

    def _render_bootstrap(self) -> None:
        with_files = EnvoySettings.model_validate({**self._sections["envoy"], "endpoints_dir": str(self._endpoints)})
        server = self._sections["server"]["listen"]
        known = lay_map(load(self.config)).file
        assert known is not None
        text = render(with_files, version=self.version, server=server, nodes=(), known=str(known))
        self._bootstrap.write_text(text)

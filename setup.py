"""What pyproject.toml cannot say: with TBMS_COMPILE=1 the rooms that every call passes are compiled to C by mypyc.

    TBMS_COMPILE=1 pip install --no-build-isolation .        # where pip install '.[compile]' and a C compiler are

The same files run as they are without it, at about half the speed (docs/decisions/175).
"""

import os
from pathlib import Path

from setuptools import Extension, setup

# Folders of which all is compiled, and files of others: what a plain call passes, and a raced one.
_ROOMS = ("ext_proc/http2", "ext_proc/processing", "ext_proc/wire/protobuf")
_FILES = (
    "ext_proc/broker/deadline.py",
    "ext_proc/broker/effects.py",
    "ext_proc/broker/estimates.py",
    "ext_proc/broker/race.py",
    "ext_proc/broker/ranks.py",
    "ext_proc/edge/placing.py",
    "ext_proc/edge/policy.py",
    "ext_proc/grpc_framing.py",
    "ext_proc/http2/aio/protocol.py",
    "ext_proc/racing/answer.py",
    "ext_proc/racing/candidate_request.py",
    "ext_proc/racing/race_runner.py",
    "ext_proc/server/processor.py",
    "ext_proc/server/traced.py",
    "ext_proc/telemetry/metrics.py",
    "ext_proc/telemetry/tallies.py",
    "ext_proc/upstream/client.py",
    "ext_proc/upstream/headers.py",
    "ext_proc/upstream/verdict.py",
    "ext_proc/wire/content_type.py",
    "ext_proc/wire/framing.py",
    "ext_proc/wire/json_text.py",
    "ext_proc/wire/names.py",
    "ext_proc/wire/naming.py",
    "mesh/bounded.py",
    "mesh/digits.py",
    "mesh/routing/choice.py",
    "mesh/routing/demand.py",
    "mesh/routing/durations.py",
    "mesh/routing/load.py",
    "mesh/routing/rendezvous.py",
    "mesh/routing/router.py",
    "mesh/routing/shortlist.py",
)


def compiled() -> list[str]:
    """The files that are compiled."""
    rooms = [path.as_posix() for room in _ROOMS for path in Path(room).glob("*.py") if path.name != "__init__.py"]
    return sorted([*rooms, *_FILES])


def extensions() -> list[Extension]:
    """What is compiled of them; nothing unless it is asked for."""
    if os.environ.get("TBMS_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    flags = ["--config-file=pyproject.toml"]
    return mypycify([*flags, *compiled()], opt_level="2", debug_level="0", group_name="tbms", multi_file=True)


setup(ext_modules=extensions())

"""What pyproject.toml cannot say: with TBMS_COMPILE=1 the rooms that every call passes are compiled to C by mypyc.

    TBMS_COMPILE=1 pip install --no-build-isolation .        # where pip install '.[compile]' and a C compiler are

The same files run as they are without it, at about half the speed (docs/decisions/175).
"""

import os
from pathlib import Path

from setuptools import Extension, setup

# What a plain call passes, a raced one and one that is gathered: folders of which all is compiled, but for what mypyc
# does not take (pydantic's models, enums with an __init__, abstract dataclasses with slots); and single files.
_ROOMS = ("batching", "gathering", "http2", "processing", "wire", "wire/protobuf", "wire/tfs", "wire/v2")
_NOT = frozenset(
    {
        "ext_proc/batching/record.py",
        "ext_proc/batching/settings.py",
        "ext_proc/wire/call.py",
        "ext_proc/wire/layouts.py",
        "ext_proc/wire/tfs/tensor_layouts.py",
        "ext_proc/wire/v2/tensor_layouts.py",
    }
)
_FILES = (
    "ext_proc/broker/answer_header.py",
    "ext_proc/broker/deadline.py",
    "ext_proc/broker/effects.py",
    "ext_proc/broker/estimates.py",
    "ext_proc/broker/fates.py",
    "ext_proc/broker/fields.py",
    "ext_proc/broker/mix.py",
    "ext_proc/broker/model_entry.py",
    "ext_proc/broker/model_table.py",
    "ext_proc/broker/plan.py",
    "ext_proc/broker/race.py",
    "ext_proc/broker/ranks.py",
    "ext_proc/broker/resolver.py",
    "ext_proc/broker/schedule.py",
    "ext_proc/racing/answer.py",
    "ext_proc/racing/candidate_request.py",
    "ext_proc/racing/race_runner.py",
    "ext_proc/racing/sending.py",
    "ext_proc/edge/held.py",
    "ext_proc/edge/placing.py",
    "ext_proc/edge/policy.py",
    "ext_proc/edge/single_plan.py",
    "ext_proc/grpc_framing.py",
    "ext_proc/http2/aio/protocol.py",
    "ext_proc/node/policy.py",
    "ext_proc/server/call_tasks.py",
    "ext_proc/server/processor.py",
    "ext_proc/server/traced.py",
    "ext_proc/telemetry/batches.py",
    "ext_proc/telemetry/metrics.py",
    "ext_proc/telemetry/races.py",
    "ext_proc/telemetry/tallies.py",
    "ext_proc/upstream/client.py",
    "ext_proc/upstream/handing_on.py",
    "ext_proc/upstream/headers.py",
    "ext_proc/upstream/verdict.py",
    "ext_proc/wake_up.py",
    "ext_proc/worker_thread.py",
    "mesh/bounded.py",
    "mesh/digits.py",
    "mesh/model_cache/books/ledger.py",
    "mesh/model_cache/books/lru.py",
    "mesh/model_cache/cache_state.py",
    "mesh/model_cache/lease.py",
    "mesh/model_cache/versions.py",
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
    rooms = [path.as_posix() for room in _ROOMS for path in Path("ext_proc", room).glob("[!_]*.py")]
    return sorted({*rooms, *_FILES} - _NOT)


def extensions() -> list[Extension]:
    """What is compiled of them; nothing unless it is asked for."""
    if os.environ.get("TBMS_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    flags = ["--config-file=pyproject.toml"]
    return mypycify([*flags, *compiled()], opt_level="2", debug_level="0", group_name="tbms", multi_file=True)


setup(ext_modules=extensions())

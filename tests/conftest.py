"""For every test: examples of Hypothesis have no time limit, since a busy machine is no fault of the code.

Nor are they others at each run: a change is judged by what it changes. `make unit` looks for new ones, and `make fuzz`.
"""

import gc
import signal

from hypothesis import HealthCheck, settings

from tests.typed_messages import remember_classes

settings.register_profile("new", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("new"), derandomize=True)
settings.load_profile("same")
remember_classes()

# A shell without job control starts what it puts into the background deaf to Ctrl-C, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Modules and tests are left out of later garbage collections, each of which would stop all for half a second."""
    gc.collect()
    gc.freeze()

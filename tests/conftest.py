"""For every test: examples of Hypothesis have no time limit, since a busy machine is no fault of the code."""

import gc
import signal

from hypothesis import settings

from tests.typed_messages import remember_classes

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
remember_classes()

# A shell without job control starts what it puts into the background deaf to Ctrl-C, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Modules and tests are left out of later garbage collections, each of which would stop all for half a second."""
    gc.collect()
    gc.freeze()

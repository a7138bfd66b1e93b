"""What is logged of refused calls: one line, then how many came after it. A burst of them is one event."""

import asyncio
import logging
from typing import Any

from ext_proc.errors import CallError, Reason

logger = logging.getLogger(__name__)

SECONDS = 5.0
"""For so long after a line the calls refused for the same reason are only counted."""


class Refusals:
    """The lines of one process. What a client did wrong is the client's to read: only for debugging, every one."""

    def __init__(self) -> None:
        self._more: dict[Reason, int] = {}

    def add(self, error: CallError, whose: dict[str, Any]) -> None:
        """A call was refused; `whose` says which. To be called in a running loop."""
        reason = error.reason
        told = {"reason": reason.name, "cause": error.message, **whose}
        if reason.http < 500:
            logger.debug("call refused", extra=told)
        elif reason in self._more:
            self._more[reason] += 1
        else:
            self._more[reason] = 0
            logger.warning("call refused", extra=told)
            asyncio.get_running_loop().call_later(SECONDS, self._tell, reason)

    def _tell(self, reason: Reason) -> None:
        more = self._more.pop(reason)
        if more:
            logger.warning("more calls refused", extra={"reason": reason.name, "calls": more, "seconds": SECONDS})

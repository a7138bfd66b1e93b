"""Whether a model gives the same bytes in company as alone: some calls are answered twice, and the answers compared.

What the batcher moves it moves exactly; what a model makes of a row may still depend on the rows beside it (a scale
that is taken over the whole batch, a kernel that is chosen by its size). That is the model's own property, and can only
be measured. The caller has the first answer long before the second one comes.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol

from ext_proc.batching.settings import BatchingSettings
from ext_proc.errors import CallError
from ext_proc.gathering.batch_request import Part
from ext_proc.upstream.client import Response

logger = logging.getLogger(__name__)

FIRST_CHECKS = 16
"""So many answers of a model that is to be exact are checked before only a share of them is."""


class CheckReport(Protocol):
    """Is told of each comparison."""

    def checked(self, model: str, same: bool) -> None:
        """An answer in company was compared with the one alone."""


class CompanyChecks:
    """Draws calls, asks for them once more, and compares. `chance` gives numbers from 0 up to 1.

    `ask_alone` asks for a part by itself, after all that waits; `differs` is told of a model that is to be exact, and
    is not.
    """

    def __init__(
        self,
        settings: BatchingSettings,
        report: CheckReport,
        ask_alone: Callable[[Part], Awaitable[Response]],
        differs: Callable[[str, str], None],
        chance: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._report = report
        self._ask_alone = ask_alone
        self._differs = differs
        self._chance = chance
        self._passed = Counter[str]()

    def draws(self, model: str) -> bool:
        """Whether a call of this model, just answered in company, is to be checked."""
        share = self._settings.check_share
        if self._settings.of(model).exact and self._passed[model] < FIRST_CHECKS:
            return True
        return share > 0 and self._chance() < share

    async def check(self, model: str, part: Part, given: Response) -> None:
        """Asks again and compares with the reply that the caller was given. An error says nothing."""
        try:
            alone = await self._ask_alone(part)
        except CallError:
            return
        if not alone.ok:
            return
        same = alone.body == given.body
        self._report.checked(model, same)
        exact = self._settings.of(model).exact
        if same:
            if exact:
                self._passed[model] += 1
            return
        if exact:
            self._passed.pop(model, None)
            self._differs(model, "it answers otherwise in company than alone")

"""Who answers a request: the search, or the plain model behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator

from kaelum_adapters.openai_api.direct_runner import DirectRunner
from kaelum_adapters.openai_api.drain import Drain
from kaelum_adapters.openai_api.exchange import Ask, RunEvent
from kaelum_adapters.openai_api.model_names import DIRECT
from kaelum_adapters.openai_api.search_runner import SearchRunner
from kaelum_flow.facade import Kaelum


class ModelRunner:
    """A `Runner` that goes by the model's name."""

    def __init__(self, kaelum: Kaelum, *, drain: Drain | None = None) -> None:
        self._search, self._direct = SearchRunner(kaelum, drain=drain), DirectRunner(kaelum)

    def run(self, ask: Ask) -> AsyncIterator[RunEvent]:
        """The events of the runner that the model's name means."""
        return (self._direct if ask.model == DIRECT else self._search).run(ask)

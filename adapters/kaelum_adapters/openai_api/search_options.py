"""The `kaelum` object of a request's body: settings of this one search."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from kaelum_adapters.openai_api.errors import ApiError
from kaelum_flow.services import PER_QUERY
from kaelum_graph.config import Settings, with_overrides
from kaelum_graph.errors import UsageError
from kaelum_graph.types import Json
from kaelum_graph.workers import worker as find_worker

KNOWN = frozenset(PER_QUERY - {"answers", "deadline"}) | {"deadline_ms"}
"""What may stand there: every setting of a query but the number of answers, which is `n`; the deadline in ms."""


def read_options(given: Mapping[str, object] | None) -> Json:
    """The options as the search takes them (`deadline` in seconds). Raises `ApiError` 400 naming the key at fault."""
    options: Json = {}
    for key, value in (given or {}).items():
        param = f"kaelum.{key}"
        if key not in KNOWN:
            near = difflib.get_close_matches(key, sorted(KNOWN), n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(sorted(KNOWN))}."
            raise ApiError(400, f"{param}: unknown option{hint}", param=param, code="unknown_parameter")
        if value is None:
            continue
        name = key
        if key == "deadline_ms":
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ApiError(400, f"{param}: expected milliseconds above 0.", param=param, code="invalid_type")
            name, value = "deadline", value / 1000
        try:
            with_overrides(Settings(), {name: value})
            if key == "worker":
                find_worker(str(value))
        except UsageError as error:
            raise ApiError(400, f"{param}: {error}", param=param, code="invalid_value") from error
        options[name] = value
    return options

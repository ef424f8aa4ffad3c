"""Answers in a form that the caller asked for: how the model is asked, what fits, and which of several is given."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from kaelum_graph.errors import UsageError
from kaelum_graph.shapes_schema import SchemaCheck, agreement, canonical, json_text, read_json, shortened
from kaelum_graph.types import Json, Message, Query, Shape
from kaelum_graph.workers.conversation import plain_conversation

_FENCED = re.compile(r"```(?:json)?[ \t]*\n(?P<inside>.*?)\n?[ \t]*```", re.DOTALL | re.IGNORECASE)
_DECODER = json.JSONDecoder()
MOST_DRAFTED = 4000
"""Characters of a draft that are shown; its end tells more than its beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An answer that was reasoned out, to be put in form. `text` is "" where there is none."""

    text: str = ""
    answer: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaped:
    """JSON text that fits, and the share of the texts that fit which say the same."""

    text: str
    share: float


class ShapeRules:
    """One shape. Raises `UsageError` for one that makes no sense."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        owner = f"shape '{shape.name}'" if shape.name else "the shape"
        if shape.kind not in ("json_object", "json_schema"):
            raise UsageError(f"{owner} is of kind '{shape.kind}'; expected json_object or json_schema.")
        if shape.kind == "json_schema" and shape.schema is None:
            raise UsageError(f"{owner} is a json_schema without a schema.")
        self._check = None if shape.schema is None else SchemaCheck(shape.schema, owner=owner)

    def read(self, text: str) -> object:
        """The value in a model's text that fits the shape. Raises `ValueError` saying why there is none."""
        values = list(_values(text))
        if not values:
            raise ValueError("it holds no JSON")
        fault = ""
        for value in values:
            fault = self._fault(value) or ""
            if not fault:
                return value
        raise ValueError(fault)

    def messages(self, query: Query, draft: Draft, *, fault: str | None = None) -> tuple[Message, ...]:
        """The conversation, the draft as the model's own answer, and that it is wanted in form.

        The schema is shown, for what it says of its fields: a grammar alone can't tell a model what to put there.
        `fault` is what was wrong with the last try.
        """
        turns = plain_conversation(query)
        text = draft.text.strip()
        if text:
            shown = text if len(text) <= MOST_DRAFTED else "…" + text[-MOST_DRAFTED:]
            turns = (*turns, Message("assistant", shown))
            wanted = "Now give this answer as "
        else:
            wanted = "Give the answer as "
        wanted += "one JSON object." if self.shape.schema is None else "JSON that fits this schema:\n"
        if self.shape.schema is not None:
            wanted += json.dumps(self.shape.schema, ensure_ascii=False)
        if draft.answer is not None and len(draft.answer) <= MOST_DRAFTED:
            wanted += f"\nThe final answer is: {draft.answer}"
        if fault:
            wanted += f"\nWhat you gave before does not fit: {fault}."
        return (*turns, Message("user", f"{wanted}\nReply with the JSON alone."))

    def choose(self, texts: Sequence[str]) -> tuple[Shaped | None, str]:
        """The form that most of the `texts` which fit agree on, else the one nearest to the others; and what is wrong
        with those that don't fit, "" for nothing."""
        values: list[object] = []
        faults: list[str] = []
        for text in texts:
            try:
                values.append(self.read(text))
            except ValueError as error:
                faults.append(shortened(str(error)))
        if not values:
            return None, faults[0] if faults else "the model gave nothing"
        keys = [canonical(value) for value in values]
        usual = agreement(values)
        best = min(range(len(values)), key=lambda place: (-keys.count(keys[place]), -round(usual[place], 9), place))
        share = keys.count(keys[best]) / len(keys)
        return Shaped(text=json_text(values[best]), share=share), faults[0] if faults else ""

    def _fault(self, value: object) -> str | None:
        if self._check is not None:
            return self._check.fault(value)
        return None if isinstance(value, dict) else "it is no JSON object"


def _values(text: str) -> Iterator[object]:
    """The JSON values that a text may be meant as: the whole of it, a fenced block, or what begins at a bracket."""
    places = [text, *(found["inside"] for found in _FENCED.finditer(text))]
    for start in [found.start() for found in re.finditer(r"[{\[]", text)][:8]:
        try:
            _, end = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        places.append(text[start:end])
        break
    for place in dict.fromkeys(places):
        try:
            yield cast("Json", read_json(place))
        except ValueError:
            continue

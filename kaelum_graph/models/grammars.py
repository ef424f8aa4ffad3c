"""Grammars that hold a sample to tool calls or to a JSON schema, token by token, compiled by llguidance."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kaelum_graph.errors import ModelError, UsageError
from kaelum_graph.models.base import GenerationRequest
from kaelum_graph.models.closed_schema import closed
from kaelum_graph.models.hermes import CLOSE, OPEN
from kaelum_graph.models.request_check import callable_tools, many_calls, must_call
from kaelum_graph.types import Json, Shape, Tool

KEPT_GRAMMARS = 64
NEWLINE = "\n"
SPACING: Json = {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}
"""JSON as Python's `json.dumps` writes it. With free white space a weak model may write nothing else."""

LENIENT: tuple[Json, ...] = ({"coerce_one_of": True}, {"coerce_one_of": True, "lenient": True})
"""What is tried where a schema that is not strict does not compile: keywords beyond the library are passed over."""

UNTYPED = frozenset({"type", "$ref", "allOf", "anyOf", "oneOf"})


class Constraint:
    """Which tokens may come next in one sample. Used by one thread at a time."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def allowed(self) -> NDArray[np.bool_]:
        """`[V]` whether each token may come next; V is the vocabulary's size or a little more, up to a multiple of 32.

        Raises `UsageError` where the library gave up on the grammar, as it does on patterns that take too much memory.
        """
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            raise UsageError(f"The tools or the shape cannot be followed: {one_line(self._matcher.get_error())}")
        return np.unpackbits(mask, bitorder="little").view(np.bool_)

    def take(self, token: int) -> None:
        """Go on by the token that was drawn. Raises `ModelError` for one that was not allowed."""
        if not self._matcher.consume_token(token):
            raise ModelError(f"The grammar could not be followed: {one_line(self._matcher.get_error())}")

    @property
    def ended(self) -> bool:
        """True where the text is complete and nothing can follow it."""
        return bool(self._matcher.is_stopped() and not self._matcher.is_error())


class Grammars:
    """The grammars of one tokenizer, each compiled once. Thread-safe.

    `vocabulary` is the number of the model's logits, `eos_ids` the tokens that end a turn.
    """

    def __init__(self, tokenizer: Any, *, vocabulary: int, eos_ids: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._eos_ids = sorted(token for token in eos_ids if token < vocabulary)
        self._lock = threading.Lock()
        self._known: OrderedDict[str, Any] = OrderedDict()
        self._options: OrderedDict[str, Json] = OrderedDict()
        self._library: Any = None

    @property
    def available(self) -> bool:
        """Whether the tokenizer is of the kind that can be read."""
        return hasattr(self._tokenizer, "backend_tokenizer") and bool(self._eos_ids)

    def constraints(self, request: GenerationRequest) -> list[Constraint] | None:
        """One constraint for each sample; None where the request leaves them free.

        Raises `UsageError` where a schema cannot be compiled, with the reason in one line.
        """
        tools, shape, forced = callable_tools(request), request.shape, must_call(request)
        if not (tools or shape):
            return None
        if not self.available:
            if not forced and not shape:
                return None
            raise UsageError("This model's tokenizer cannot be constrained, so no call and no shape can be forced.")
        with self._lock:
            try:
                grammar = self._grammar(tools, shape, forced=forced, parallel=many_calls(request))
                compiled = self._compiled(grammar)
            except UsageError:
                if forced or shape or any(tool.strict for tool in tools):
                    raise
                return None  # Nothing was promised: such tools are offered, and what the model writes is read.
            return [Constraint(compiled.deep_copy()) for _ in range(request.n)]

    def _grammar(self, tools: Sequence[Tool], shape: Shape | None, *, forced: bool, parallel: bool) -> str:
        """The grammar in the library's dialect of Lark."""
        rules: list[str] = ["%llguidance {}"]
        names = " | ".join(f"tool_{number}" for number in range(len(tools)))
        begin, end = self._tag(OPEN), f"{_quoted('}' + NEWLINE)} {self._tag(CLOSE)}"
        if forced or (tools and shape):
            calls = f'{begin} called ("\\n" {begin} called)*' if parallel else f"{begin} called"
            rules.append(f"start: {calls}" + ("" if forced else " | answer"))
        elif tools:
            calls = "(begun called)* text" if parallel else "text | begun called"
            rules += [f"start: {calls}", "TEXT: /(.|\\n)*/", *self._free_text(begin)]
        else:
            rules.append("start: answer")
        if tools:
            rules.append(f"called: ({names}) {end}")
        for number, tool in enumerate(tools):
            head = f'\n{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "arguments": '
            schema = self._json(arguments_schema(tool), strict=tool.strict, owner=f"tool {tool.name!r}")
            rules.append(f"tool_{number}: {_quoted(head)} arguments_{number}")
            rules.append(f"arguments_{number}: {schema}")
        if shape and not forced:
            schema = {"type": "object"} if shape.kind == "json_object" else shape.schema
            owner = f"shape {shape.name!r}" if shape.name else "the shape"
            rules.append(f"answer: {self._json(schema or {}, strict=shape.strict, owner=owner)}")
        return "\n".join(rules) + "\n"

    def _free_text(self, begin: str) -> list[str]:
        """Rules for any text, and for any text up to the tag that begins a call."""
        if begin == _quoted(OPEN):
            # A lazy lexeme ends where the tag does.
            return ["text: TEXT", f"begun[lazy]: TEXT {begin}"]
        # The library keeps the tokenizer's added tokens apart from text; a model that thinks in some must be let.
        marks = sorted(token for tag, token in self._marks.items() if tag != OPEN)
        listed = ",".join(map(str, marks))
        return [f"text: TEXT (<[{listed}]> TEXT)*" if marks else "text: TEXT", f"begun: text {begin}"]

    def _tag(self, tag: str) -> str:
        """A tag as the grammar names it: a token of its own where the tokenizer has one, else its letters."""
        return f"<[{self._marks[tag]}]>" if tag in self._marks else _quoted(tag)

    @cached_property
    def _marks(self) -> dict[str, int]:
        """Tokens that are written into the text as they are, and that the library yet takes for special."""
        added: dict[str, int] = self._tokenizer.get_added_vocab()
        return {
            text: token
            for text, token in added.items()
            if token < self._vocabulary and token not in self._eos_ids and self._read().is_special_token(token)
            # Of the hidden ones only the tags of a call are ever put into the text (see `ChatPrompt.decode`).
            if text in (OPEN, CLOSE) or self._tokenizer.decode([token], skip_special_tokens=True)
        }

    def _json(self, schema: Json, *, strict: bool, owner: str) -> str:
        """The schema as part of a grammar, with the mildest options under which it compiles."""
        narrow = closed(schema)
        key = f"{strict}{json.dumps(narrow)}"
        options = self._options.get(key)
        if options is None:
            reason = self._problem(narrow, {})
            options = {}
            for milder in () if strict else LENIENT:
                if reason and not self._problem(narrow, milder):
                    options, reason = milder, ""
            if reason:
                raise UsageError(f"The JSON schema of {owner} cannot be followed: {reason}")
        _keep(self._options, key, options)
        return _rule(narrow, options)

    def _problem(self, schema: Json, options: Json) -> str:
        """Why the schema does not compile; empty where it does."""
        return one_line(self._matcher(f"start: {_rule(schema, options)}\n").get_error())

    def _compiled(self, grammar: str) -> Any:
        """A matcher at the start of the grammar, to be copied."""
        matcher = self._known.get(grammar)
        if matcher is None:
            matcher = self._matcher(grammar)
            trial = matcher.deep_copy()
            trial.compute_bitmask()
            if trial.is_error():  # it compiles, and yet nothing fits it: a reference to itself, say
                raise UsageError(f"The tools or the shape cannot be followed: {one_line(trial.get_error())}")
        _keep(self._known, grammar, matcher)
        return matcher

    def _matcher(self, grammar: str) -> Any:
        from llguidance import LLMatcher

        return LLMatcher(self._read(), grammar, log_level=0)

    def _read(self) -> Any:
        """The tokenizer as the library reads it; for a vocabulary of 152,000 that takes a second or two, once."""
        if self._library is None:
            from llguidance import hf

            size = max(self._vocabulary, len(self._tokenizer))
            self._library = hf.from_tokenizer(self._tokenizer, n_vocab=size, eos_token=self._eos_ids)
        return self._library


def arguments_schema(tool: Tool) -> Json:
    """The schema of a tool's arguments, which are an object. A tool without parameters takes none.

    Raises `UsageError` for parameters that are no object.
    """
    schema = tool.parameters
    if not schema:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    if schema.get("type", "object") != "object":
        raise UsageError(f"The parameters of tool {tool.name!r} are of type {schema['type']!r}; expected 'object'")
    return schema if not UNTYPED.isdisjoint(schema) else {"type": "object", **schema}


def one_line(error: str) -> str:
    """The library's complaint without the grammar and the state that it shows."""
    text = re.split(r"\n\s+\d+ \| |<state>", error, maxsplit=1)[0]
    return " ".join(re.sub(r"^at \d+\(\d+\): (failed to compile JSON schema: )?", "", text).split())


def _rule(schema: Json, options: Json) -> str:
    return "%json " + json.dumps({**schema, "x-guidance": {**SPACING, **options}})


def _quoted(text: str) -> str:
    return json.dumps(text)


def _keep(kept: OrderedDict[str, Any], key: str, value: Any) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > KEPT_GRAMMARS:
        kept.popitem(last=False)

"""JSON schemas that callers give, and values that must fit them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import Any, NoReturn, cast

import regex
from jsonschema import Draft202012Validator, FormatChecker, SchemaError, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import extend, validator_for
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from kaelum_graph.errors import UsageError
from kaelum_graph.types import Json

PATTERN_SECONDS = 0.2
"""Longest that one pattern may take on one string: some patterns take for ever, and they are a caller's."""
DEEPEST = 64
"""Levels of nesting of a value that is looked at."""
MOST_SAID = 200
"""Characters of a fault."""


class SchemaCheck:
    """One JSON schema, of the draft that its `$schema` names, else 2020-12. `owner` names it in errors.

    Raises `UsageError` for what is no schema, for a reference that leads nowhere in it (nothing is ever fetched) and
    for a pattern that is none.
    """

    def __init__(self, schema: Json, *, owner: str) -> None:
        self._owner = owner
        problem, self._validator = _compiled(_text(schema, owner))
        if problem:
            raise UsageError(f"the JSON schema of {owner} is not valid: {problem}.")

    def fault(self, value: object) -> str | None:
        """Why `value` doesn't fit, in one line; None where it does.

        Raises `UsageError` where the schema can't be worked out: it refers to itself without end.
        """
        try:
            error = best_match(self._validator.iter_errors(value))
        except RecursionError:
            raise UsageError(f"the JSON schema of {self._owner} refers to itself without end.") from None
        except Unresolvable as problem:
            raise UsageError(f"the JSON schema of {self._owner} is not valid: {_said(problem)}.") from problem
        except TimeoutError:
            return "a pattern took too long"
        if error is None:
            return None
        return f"{error.json_path}: {shortened(error.message)}"


def read_json(text: str) -> Any:
    """The value that JSON text spells. Raises `ValueError` in one line for anything else, NaN and infinity included."""
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if _deeper_than(value, DEEPEST):
        raise ValueError("nested too deeply")
    return value


def json_text(value: object) -> str:
    """A value as JSON text that any reader and UTF-8 can take."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which only its escape can carry
        return json.dumps(value)
    return text


def canonical(value: object) -> str:
    """Text that is the same for values that say the same: whatever the order of keys, the form of a whole number (1 or
    1.0) and the white space around a string."""
    return json.dumps(_plain(value), sort_keys=True)


def agreement(values: Sequence[object]) -> list[float]:
    """For each value, in how much it agrees with all: the mean share of them that say the same at each of its leaves.

    It tells which of several values that all differ is the most usual one; 1 where all are equal.
    """
    found = [dict(_leaves(_plain(value), "$")) for value in values]
    counts: dict[tuple[str, str], int] = {}
    for one in found:
        for leaf in one.items():
            counts[leaf] = counts.get(leaf, 0) + 1
    return [sum(counts[leaf] for leaf in one.items()) / (len(one) * len(found)) for one in found]


def shortened(text: str) -> str:
    """`text` on one line of at most `MOST_SAID` characters."""
    line = " ".join(text.split())
    return line if len(line) <= MOST_SAID else line[: MOST_SAID - 1] + "…"


def _text(schema: object, owner: str) -> str:
    if not isinstance(schema, dict):
        raise UsageError(f"the JSON schema of {owner} is a {type(schema).__name__}; it must be an object.")
    try:
        return json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the JSON schema of {owner} is not valid: {_said(error)}.") from error


@lru_cache(maxsize=256)
def _compiled(text: str) -> tuple[str, Any]:
    """What is wrong with a schema, "" for nothing, and what checks values against it."""
    try:
        schema: Json = json.loads(text)
        kind: Any = validator_for(schema, default=Draft202012Validator)
        # Patterns are not all Python's own; they are looked at below.
        kind.check_schema(schema, format_checker=FormatChecker(()))
        _check_parts(schema)
    except SchemaError as error:
        return f"{error.json_path}: {shortened(error.message)}", None
    except RecursionError:
        return "nested too deeply", None
    except (ValueError, Unresolvable) as error:
        return _said(error), None
    # An empty registry: without one, references would be fetched from wherever the caller says.
    return "", _guarded(kind)(schema, registry=Registry())


def _check_parts(schema: Json) -> None:
    """Raise `ValueError` or `Unresolvable` for a pattern, or a reference, anywhere in the schema that is none."""
    root = Resource.from_contents(schema, default_specification=DRAFT202012)
    registry = cast("Registry[Any]", Registry().with_resource("", root)).crawl()
    waiting: list[tuple[Any, Any]] = [(root, registry.resolver_with_root(root))]
    keywords: set[str] = set()
    while waiting:
        resource, resolver = waiting.pop()
        contents: Any = resource.contents
        if isinstance(contents, dict):
            part = cast("Json", contents)
            keywords.update(part)
            if isinstance(reference := part.get("$ref"), str):
                resolver.lookup(reference)
            patterns: list[object] = [
                *part.get("patternProperties", {}),
                *([part["pattern"]] if "pattern" in part else []),
            ]
            for pattern in patterns:
                _check_pattern(pattern)
        waiting += [(inner, resolver.in_subresource(inner)) for inner in resource.subresources()]
    if {"patternProperties", "unevaluatedProperties"} <= keywords:
        # The library matches these names by itself, where nothing bounds the time it takes.
        raise ValueError("patternProperties and unevaluatedProperties together are not supported")


def _check_pattern(pattern: object) -> None:
    try:
        regex.compile(str(pattern))
    except regex.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error


def _matches(pattern: str, text: str) -> bool:
    return regex.search(pattern, text, timeout=PATTERN_SECONDS) is not None


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(instance, str) and not _matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Json, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    for pattern, inner in patterns.items():
        for key, value in cast("Json", instance).items():
            if _matches(pattern, key):
                yield from validator.descend(value, inner, path=key, schema_path=pattern)


def _additional_properties(validator: Any, inner: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, dict):
        return
    named: Json = schema.get("properties", {})
    patterns: Json = schema.get("patternProperties", {})
    for key, value in cast("Json", instance).items():
        if key in named or any(_matches(pattern, key) for pattern in patterns):
            continue
        if inner is False:
            yield ValidationError(f"{key!r} is none of its properties")
        else:
            yield from validator.descend(value, inner, path=key)


@cache
def _guarded(kind: Any) -> Any:
    """A draft's validator whose patterns can't run for ever."""
    return extend(
        kind,
        {
            "pattern": _pattern,
            "patternProperties": _pattern_properties,
            "additionalProperties": _additional_properties,
        },
    )


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in cast("Json", value).items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in cast("list[object]", value)]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value.strip() if isinstance(value, str) else value


def _leaves(value: object, path: str) -> Iterator[tuple[str, str]]:
    """The places in a value that hold no more places, with what they hold."""
    if isinstance(value, dict) and value:
        for key, inner in cast("Json", value).items():
            yield from _leaves(inner, f"{path}.{key}")
    elif isinstance(value, list) and value:
        for place, inner in enumerate(cast("list[object]", value)):
            yield from _leaves(inner, f"{path}[{place}]")
    else:
        yield path, json.dumps(value)


def _deeper_than(value: object, levels: int) -> bool:
    layer: list[Any] = [value]
    for _ in range(levels + 1):
        layer = [
            inner
            for one in layer
            if isinstance(one, dict | list)
            for inner in (cast("Json", one).values() if isinstance(one, dict) else cast("list[Any]", one))
        ]
        if not layer:
            return False
    return True


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{shortened(text)} is too large a number")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _said(error: Exception) -> str:
    return shortened(str(error)).rstrip(".") or type(error).__name__

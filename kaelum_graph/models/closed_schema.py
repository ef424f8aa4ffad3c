"""A JSON schema made narrower where a small model would otherwise ramble: unnamed properties are left out.

JSON Schema lets an object hold anything beside the properties it names. Whoever names some seldom means that, and
every text that fits the narrower schema fits the one that was given.
"""

from __future__ import annotations

from typing import Any, cast

from kaelum_graph.types import Json

COMBINED = frozenset(
    {
        "$dynamicRef",
        "$ref",
        "additionalProperties",
        "allOf",
        "anyOf",
        "dependentSchemas",
        "else",
        "if",
        "minProperties",
        "not",
        "oneOf",
        "patternProperties",
        "propertyNames",
        "then",
        "unevaluatedProperties",
    }
)
"""Keywords beside which an object's properties are not all that it may, or must, hold."""

PARTS = frozenset({"$dynamicRef", "$ref", "anyOf", "oneOf"})
OWN = frozenset({"additionalProperties", "patternProperties", "properties", "required"})
"""What an object may say of itself beside `PARTS` that speak of the same object."""

MAPS = ("properties", "$defs", "definitions")
LISTS = ("anyOf", "oneOf", "prefixItems")
SINGLE = ("items", "additionalProperties")


def closed(schema: Json) -> Json:
    """`schema` with `additionalProperties: false` wherever an object names its properties and says nothing else of it.

    A schema that combines others anywhere, by `allOf` or by alternatives or a reference beside properties, is returned
    as it is: its parts must leave room for one another.
    """
    return schema if _combines(schema) else cast("Json", _closed(schema))


def _closed(schema: object) -> object:
    if not isinstance(schema, dict):
        return schema
    result: Json = dict(cast("Json", schema))
    for key in MAPS:
        if isinstance(result.get(key), dict):
            result[key] = {name: _closed(inner) for name, inner in result[key].items()}
    for key in LISTS:
        if isinstance(result.get(key), list):
            result[key] = [_closed(inner) for inner in result[key]]
    for key in SINGLE:
        if isinstance(result.get(key), dict):
            result[key] = _closed(result[key])
    properties: Any = result.get("properties")
    required: Any = result.get("required", [])
    if (
        isinstance(properties, dict)
        and properties
        and COMBINED.isdisjoint(result)
        and isinstance(required, list)
        and all(name in properties for name in required)
    ):
        result["additionalProperties"] = False
    return result


def _combines(value: object) -> bool:
    if isinstance(value, dict):
        parts = cast("Json", value)
        if "allOf" in parts or not (PARTS.isdisjoint(parts) or OWN.isdisjoint(parts)):
            return True
        return any(map(_combines, parts.values()))
    return isinstance(value, list) and any(map(_combines, cast("list[object]", value)))

"""Facts that questions are made of, looked up in data packages: capitals, currencies, chemical elements.

Which countries and elements are asked about, and how a question is put, is said in `tasks.py`. Here is what is true of
them: capitals from countryinfo, currencies from the table that ISO 4217's maintenance agency publishes (iso4217),
elements from periodictable. Where a package spells a name as few would answer it, a table here says how else it may be
written, and why.
"""

from __future__ import annotations

import importlib
import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Any

_CAPITALS_TOO = {
    "Kyiv": ("Kiev",),  # the name in English until the 2010s, from the Russian
    "Ulaanbaatar": ("Ulan Bator",),  # the older spelling, from the Russian
    "New Delhi": ("Delhi",),  # New Delhi is a district of it, and people name the city
}
_ELEMENTS_TOO = {
    # IUPAC writes aluminium, caesium and sulfur, and allows the others as variants. The package has aluminum, cesium.
    "aluminium": ("aluminum",),
    "cesium": ("caesium",),
    "sulfur": ("sulphur",),
}
_ISO_COUNTRIES = {
    "Laos": "LAO PEOPLE’S DEMOCRATIC REPUBLIC",
    "Russia": "RUSSIAN FEDERATION",
    "South Korea": "KOREA (THE REPUBLIC OF)",
    "Turkey": "TÜRKİYE",
    "Vietnam": "VIET NAM",
}
_NOT_ITS_OWN = frozenset({("HAITI", "USD"), ("URUGUAY", "UYW")})
"""Listed beside the country's own: the US dollar, and a unit that pensions are counted in and nobody pays with."""

_USUAL_UNITS = {
    "ILS": "shekel",  # ISO: sheqel; the Bank of Israel writes shekel in English
    "QAR": "riyal",  # ISO: rial; Qatar's central bank writes riyal
    "UYU": "peso",  # ISO has the Spanish name, Peso Uruguayo
}
_UNITS_TOO = {
    # The British spelling.
    "BYN": ("rouble",), "RUB": ("rouble",),
    # "Crown", as it is translated.
    "CZK": ("crown",), "DKK": ("crown",), "ISK": ("crown", "króna"), "NOK": ("crown",), "SEK": ("crown",),
    # In the country's own spelling, which ISO leaves without accents or writes in another way from the Cyrillic.
    "CRC": ("colón",), "MNT": ("tögrög", "togrog"), "PLN": ("złoty",), "PYG": ("guaraní",), "UZS": ("som", "soum"),
    "VND": ("đồng",),
    # As other countries with a currency of this name write it.
    "SAR": ("rial",),
    # Plurals that are not made with an s.
    "BRL": ("reais",), "PEN": ("soles",),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Currency:
    """A currency's ISO 4217 code, and the names of its unit in small letters; the first is the usual one."""

    code: str
    units: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Element:
    """A chemical element; `names` are spellings, the first as it was asked for."""

    symbol: str
    number: int
    names: tuple[str, ...]


def capital(country: str) -> tuple[str, ...]:
    """The names of a country's capital; the first is the usual one, without accents. Raises `LookupError`."""
    name = _package("countryinfo").CountryInfo(country).capital()
    if not name:
        raise LookupError(f"countryinfo knows no capital of {country}.")
    plain = "".join(letter for letter in unicodedata.normalize("NFD", name) if not unicodedata.combining(letter))
    return tuple(dict.fromkeys((plain, name, *_CAPITALS_TOO.get(plain, ()))))


def currency(country: str, *, words: frozenset[str]) -> Currency:
    """The currency of a country that has one of its own; its unit is the ISO name without the `words` for the country.

    Raises `LookupError` where ISO lists none, or several.
    """
    wanted = _ISO_COUNTRIES.get(country, country).upper()
    found = [(code, name) for where, code, name in _iso_currencies() if wanted in (where, re.sub(r" \(.*", "", where))]
    if len(found) != 1:
        raise LookupError(f"ISO 4217 lists {len(found)} currencies of {country}; expected 1.")
    ((code, name),) = found
    unit = " ".join(word for word in name.lower().split() if word not in words)
    usual = _USUAL_UNITS.get(code, unit)
    others = (unit,) if " " not in unit else ()
    return Currency(code=code, units=tuple(dict.fromkeys((usual, *others, *_UNITS_TOO.get(code, ())))))


def element(name: str) -> Element:
    """A chemical element by any of its names. Raises `LookupError`."""
    names = (name, *_ELEMENTS_TOO.get(name, ()))
    found = next((one for one in _package("periodictable").elements if one.name in names), None)
    if found is None:
        raise LookupError(f"periodictable knows no element {name}.")
    return Element(symbol=found.symbol, number=found.number, names=names)


@cache
def _iso_currencies() -> tuple[tuple[str, str, str], ...]:
    """Country in capital letters, code and name of each currency; funds and what is not the country's own left out."""
    rows = _package("iso4217").raw_xml.findall("CcyTbl/CcyNtry")
    # A row without a code is of a territory that has no currency of its own.
    told = [row for row in rows if row.find("Ccy") is not None and row.find("CcyNm").get("IsFund") is None]
    listed = [tuple(row.find(part).text.strip() for part in ("CtryNm", "Ccy", "CcyNm")) for row in told]
    return tuple((where, code, name) for where, code, name in listed if (where, code) not in _NOT_ITS_OWN)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"questions about facts need the package '{name}': install the bench extra, pip install -e '.[bench]'.",
            name=name,
        ) from error

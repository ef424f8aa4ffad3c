"""The settings, and where each value came from: flags over environment over a TOML file over defaults."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from platformdirs import user_cache_path, user_config_path, user_data_path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from kaelum_graph.errors import ConfigError

APPLICATION = "kaelum-graph"
PROJECT_FILE = Path("kaelum.toml")
PREFIX = "KAELUM_"
NOT_SETTINGS = frozenset({"KAELUM_CONFIG", "KAELUM_DEBUG"})
"""Variables that steer the program itself: which settings file to read, and whether to show tracebacks."""

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Folder = Annotated[Path, AfterValidator(Path.expanduser)]

# Kubernetes sets these for a service whose name begins with "kaelum"; nobody meant them as settings.
_SERVICE_LINK = re.compile(r"KAELUM_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")


class Settings(BaseModel):
    """Everything that can be set. A field's None means "not set": what then happens is in its description."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = Field(
        default=None, min_length=1, description="catalogue name, hub id or path; unset: the best this machine can carry"
    )
    base_url: str | None = Field(
        default=None, pattern=r"^https?://[^\s/]\S*$", description="OpenAI-compatible server to ask instead"
    )
    api_key: SecretStr | None = Field(default=None, min_length=1, description="key for that server; never printed")
    temperature: float = Field(default=0.7, ge=0, le=2, description="sampling temperature of a rollout; 0 is greedy")
    top_p: float = Field(default=0.95, gt=0, le=1, description="nucleus sampling: probability mass to draw from")
    max_tokens: int | None = Field(
        default=None, ge=1, description="most new tokens of one rollout; unset: the worker's own limit"
    )
    sims: int | None = Field(
        default=None, ge=1, le=256, description="most rollouts for one query; unset: the router's budget"
    )
    depth: int | None = Field(
        default=None, ge=1, le=64, description="most steps deep at which the search branches; unset: the router's"
    )
    effort: Effort | None = Field(default=None, description="how hard to try; unset: the router decides")
    token_budget: int | None = Field(
        default=None, ge=1, description="most completion tokens for one query; unset: no limit"
    )
    deadline: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="seconds until the best answer so far is given; loading the model is not counted",
    )
    prm_threshold: float = Field(
        default=0.0, ge=0, le=1, description="lowest reward-model score at which a rollout may be the answer"
    )
    min_confidence: float = Field(
        default=0.0, ge=0, le=1, description="lowest P(correct) that counts as sure; below it the exit code is 10"
    )
    answers: int = Field(default=1, ge=1, le=16, description="most distinct answers to give, the best first")
    routing: bool = Field(default=True, description="let the router choose workers and budget")
    worker: str | None = Field(default=None, min_length=1, description="send every query to this worker")
    cache: bool = Field(default=True, description="serve stored answers to the same question")
    cache_similarity: float = Field(
        default=0.9, ge=0, le=1, description="lowest cosine at which a stored query is looked at"
    )
    learning: bool = Field(
        default=True, description="learn from answered queries and from feedback; off: keep to what was learned"
    )
    structures: bool = Field(
        default=False, description="try reasoning structures: plans the model writes, kept where checks show a gain"
    )
    max_reflections: int = Field(
        default=1, ge=0, le=8, description="times a failed answer goes back to the search with what failed"
    )
    judge: Literal["auto", "on", "off"] = Field(
        default="auto", description="a rubric judge's vote on analyses; auto: for models above 1.5 billion parameters"
    )
    early_stop: bool = Field(
        default=True, description="end a search once its evidence is clear; off: spend the whole budget"
    )
    first_wave: int = Field(
        default=4, ge=2, le=128, description="rollouts of a search's first wave, the fewest whose agreement can end it"
    )
    wave_size: int = Field(
        default=16, ge=1, le=128, description="most rollouts generated in one batch; waves double from the first"
    )
    slots: int | None = Field(
        default=None,
        ge=1,
        description="most rollouts at once over all queries; unset: a local model's batch, for a server no limit",
    )
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="makes a search repeatable")
    device: str = Field(
        default="auto", pattern=r"^(auto|cpu|mps|(cuda|xpu)(:\d+)?)$", description="where the local model runs"
    )
    engine: Literal["auto", "padded", "continuous"] = Field(
        default="auto", description="how the local model batches; auto: whichever is faster here"
    )
    offload: Literal["none", "cpu", "disk"] = Field(
        default="none", description="where weights go that the device has no room for"
    )
    documents: Annotated[Path | None, AfterValidator(lambda path: path and path.expanduser())] = Field(
        default=None, description="folder of .txt and .md files to look facts up in"
    )
    trust_sources: bool = Field(
        default=False, description="take what a retrieved passage says for true: such an answer is verified"
    )
    retriever_timeout: float = Field(
        default=10.0, gt=0, allow_inf_nan=False, description="seconds after which a retriever is not waited for"
    )
    hub: Literal["auto", "off"] = Field(default="auto", description="whether model hubs and registries may be asked")
    cache_dir: Folder = Field(
        default_factory=lambda: user_cache_path(APPLICATION), description="folder of fetched models"
    )
    data_dir: Folder = Field(
        default_factory=lambda: user_data_path(APPLICATION), description="folder of episodes and learned state"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The effective settings; `origins` has one entry for every field, `file` is the settings file that was read."""

    settings: Settings
    origins: dict[str, str]
    file: Path | None


def load_settings(*, flags: Mapping[str, object], environ: Mapping[str, str], file: Path | None = None) -> Loaded:
    """Merge all sources; later ones lose.

    `flags` are field names with the values that were given (None: not given). `file` must exist; without it the file
    is the one named by KAELUM_CONFIG, else ./kaelum.toml, else config.toml in the user's configuration folder, the
    last two only when present. An empty environment variable counts as not set.
    Raises `ConfigError` naming key, value, origin and expectation, and for unknown keys the nearest known one.
    """
    path, found_in_folder = _settings_file(environ, file)
    given: dict[str, tuple[object, str]] = {}
    if path is not None:
        for key, (value, line) in _read_toml(path).items():
            origin = f"file {path} line {line}"
            if key not in Settings.model_fields:
                raise ConfigError(f"{path} line {line}: unknown setting '{key}'; the nearest is '{_nearest(key)}'.")
            given[key] = (_valid(key, value, origin), origin)
    for variable, text in sorted(environ.items()):
        if key := _setting_of(variable, text):
            origin = f"environment {variable}"
            given[key] = (_valid(key, text, origin, text=True), origin)
    for key, value in flags.items():
        if value is not None:
            origin = f"flag --{'no-' if value is False else ''}{key.replace('_', '-')}"
            given[key] = (_valid(_known(key), value, origin, text=isinstance(value, str)), origin)

    origins = {key: given[key][1] if key in given else "default" for key in Settings.model_fields}
    if found_in_folder:
        _keep_key_from_strange_server(origins)
    settings = Settings().model_copy(update={key: value for key, (value, _) in given.items()})
    if found_in_folder and path is not None:
        _keep_documents_from_strange_server(settings, origins, path.parent)
    return Loaded(settings=settings, origins=origins, file=path)


def with_overrides(settings: Settings, overrides: Mapping[str, object]) -> Settings:
    """`settings` with other values for some fields (None unsets one). Raises `ConfigError` for a bad one."""
    valid = {key: _valid(_known(key), value, "argument") for key, value in overrides.items()}
    return settings.model_copy(update=valid)


def expectation(key: str) -> str:
    """What a valid value of the setting `key` looks like, in words."""
    field = Settings.model_fields[key]
    kind = _kind(field)
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if key == "base_url":
        return "an http:// or https:// address"
    if key == "device":
        return "auto, cpu, cuda, cuda:N, mps or xpu"
    if kind is bool:
        return "true or false"
    if kind in (int, float):
        return ("a whole number" if kind is int else "a number") + _range(field)
    return "a path" if kind is Path else "a text that is not empty"


def _range(field: FieldInfo) -> str:
    bounds = {
        name: getattr(item, name) for item in field.metadata for name in ("ge", "gt", "le") if hasattr(item, name)
    }
    if "gt" in bounds and "le" in bounds:
        return f" above {bounds['gt']} and up to {bounds['le']}"
    if "gt" in bounds:
        return f" above {bounds['gt']}"
    return f" from {bounds['ge']} to {bounds['le']}" if "le" in bounds else f" of {bounds['ge']} or more"


def _kind(field: FieldInfo) -> Any:
    """The field's type without "or None" and without annotations."""
    options = [option for option in get_args(field.annotation) if option is not NoneType]
    if get_origin(field.annotation) is not Literal and options:
        return options[0]
    return field.annotation


def _valid(key: str, value: object, origin: str, *, text: bool = False) -> object:
    """`value` in the field's own type; `text` when it was typed, so that "8" is a number and "off" is false."""
    field = Settings.model_fields[key]
    kind = _kind(field)
    well_typed = True
    if kind in (bool, int, float) and value is not None and not text:
        # pydantic would take true for 1, 1 for true and "8" for 8.
        well_typed = not isinstance(value, str) and isinstance(value, bool) == (kind is bool)
    try:
        if well_typed:
            return getattr(Settings.model_validate({key: value}), key)
    except ValidationError:
        pass
    shown = "***" if kind is SecretStr else _shown(value)
    raise ConfigError(f"{key} has value {shown} ({origin}): expected {expectation(key)}.")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _nearest(name: str, known: Iterable[str] | None = None) -> str:
    return difflib.get_close_matches(name, list(known or Settings.model_fields), n=1, cutoff=0.0)[0]


def _known(key: str) -> str:
    if key not in Settings.model_fields:
        raise ConfigError(f"unknown setting '{key}'; the nearest is '{_nearest(key)}'.")
    return key


def _setting_of(variable: str, value: str) -> str | None:
    """The field that an environment variable sets; None when it sets nothing. Raises for an unknown KAELUM_ name."""
    if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
        return None
    key = variable.removeprefix(PREFIX).lower()
    if key in Settings.model_fields and variable == PREFIX + key.upper():
        return key if value else None
    if _SERVICE_LINK.fullmatch(variable) or (variable.endswith("_PORT") and "://" in value):
        return None
    nearest = _nearest(variable.upper(), [PREFIX + name.upper() for name in Settings.model_fields] + [*NOT_SETTINGS])
    raise ConfigError(f"environment {variable}: unknown setting; the nearest is {nearest}.")


def _settings_file(environ: Mapping[str, str], file: Path | None) -> tuple[Path | None, bool]:
    """The file to read, and whether it was taken only because it lies in the working folder."""
    if file is not None:
        return file.expanduser(), False
    if named := environ.get("KAELUM_CONFIG"):
        return Path(named).expanduser(), False
    if os.path.lexists(PROJECT_FILE):
        return PROJECT_FILE.absolute(), True
    user_file = user_config_path(APPLICATION) / "config.toml"
    return (user_file, False) if os.path.lexists(user_file) else (None, False)


def _keep_key_from_strange_server(origins: Mapping[str, str]) -> None:
    """A cloned folder's kaelum.toml must not send the user's own key to a server of its choosing."""
    key, server = origins["api_key"], origins["base_url"]
    if server.startswith("file ") and not key.startswith("file ") and key != "default":
        raise ConfigError(
            f"base_url comes from {server.removeprefix('file ')}, which was read only because it lies in this folder, "
            f"and api_key from {key}: to send the key there, name the file with --config."
        )


def _keep_documents_from_strange_server(settings: Settings, origins: Mapping[str, str], folder: Path) -> None:
    """Nor must it send the user's own texts there, or have texts of the user's read from anywhere else."""
    if settings.documents is None:
        return
    inside = settings.documents.resolve().is_relative_to(folder.resolve())
    if origins["documents"].startswith("file ") and not inside:
        raise ConfigError(
            f"documents is {settings.documents} by {origins['documents'].removeprefix('file ')}, which was read only "
            "because it lies in this folder: to read documents outside it, name the file with --config."
        )
    if origins["base_url"].startswith("file ") and not origins["documents"].startswith("file "):
        raise ConfigError(
            f"base_url comes from {origins['base_url'].removeprefix('file ')}, which was read only because it lies in "
            f"this folder, and documents from {origins['documents']}: to send them there, name the file with --config."
        )


def _read_toml(path: Path) -> dict[str, tuple[object, int]]:
    """Top-level keys of a TOML file, each with its value and the line on which it begins."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the settings file: {error.strerror or error}.") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path} line {line}: not UTF-8 text.") from error
    text = text.replace("\r\n", "\n")
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = str(error)
        place = re.search(r" \(at line (\d+), column \d+\)$", reason)
        line = int(place[1]) if place else text.rstrip("\n").count("\n") + 1
        reason = re.sub(r" \(at (line \d+, column \d+|end of document)\)$", "", reason)
        raise ConfigError(f"{path} line {line}: not valid TOML: {reason}.") from error
    lines = _key_lines(text)
    return {key: (value, lines[key]) for key, value in values.items()}


def _key_lines(text: str) -> dict[str, int]:
    """Line on which each top-level key of a valid TOML text is first named. tomllib does not tell.

    Lines are gathered until they parse by themselves: that is one statement, whatever strings and arrays it spans.
    """
    found: dict[str, int] = {}
    statement: list[str] = []
    in_table = False
    for number, line in enumerate(text.split("\n"), start=1):
        statement.append(line)
        try:
            keys = tomllib.loads("\n".join(statement))
        except tomllib.TOMLDecodeError:
            continue
        first = number - len(statement) + 1
        is_header = statement[0].lstrip().startswith("[")
        in_table = in_table or is_header
        if is_header or not in_table:
            for key in keys:
                found.setdefault(key, first)
        statement.clear()
    return found

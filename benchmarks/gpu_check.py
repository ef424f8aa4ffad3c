"""Runs the engine's tests and its throughput table on a CUDA machine that has torch and transformers and no network.

    python benchmarks/gpu_check.py --weights FOLDER

`FOLDER` is a model as `save_pretrained` writes it, or holds a GGUF file, whole or in pieces (`NAME.gguf.part0`, … or
`part00.bin`, …) that are joined in numeric order; `--weights FILE.gguf` names the file itself. `--sha256` checks the
joined file before it is used.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = (
    "test_sampling.py",
    "test_detokenizer.py",
    "test_local_model.py",
    "test_padded.py",
    "test_continuous.py",
    "test_architectures.py",
)
PIECE = re.compile(r"(?:\.part-?|part)(\d+)(?:\.bin)?$")


class CheckError(Exception):
    """Why the check cannot be made, in one line."""


def pieces_in(folder: Path) -> list[Path]:
    """The pieces of a file in numeric order; none where there are none. Raises `CheckError` where one is missing."""
    numbered = {int(match[1]): path for path in folder.iterdir() if (match := PIECE.search(path.name))}
    if not numbered:
        return []
    first = min(numbered)
    missing = [number for number in range(first, max(numbered) + 1) if number not in numbered]
    if first > 1 or missing:
        raise CheckError(f"{folder}: piece {missing[0] if missing else 0} is missing")
    return [numbered[number] for number in sorted(numbered)]


def join_pieces(pieces: Sequence[Path], target: Path) -> str:
    """Write the pieces to `target`, one after another; the SHA-256 of the whole."""
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for piece in pieces:
            with piece.open("rb") as source:
                while block := source.read(1 << 20):
                    out.write(block)
                    digest.update(block)
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def model_folder(weights: Path, *, sha256: str | None, scratch: Path) -> Path:
    """A folder that transformers loads, made in `scratch` where `weights` is a GGUF file or its pieces."""
    if not weights.exists():
        raise CheckError(f"{weights} does not exist")
    if weights.is_dir() and (weights / "config.json").is_file():
        return weights
    gguf, digest = weights, None
    if weights.is_dir():
        whole = sorted(weights.glob("*.gguf"))
        if whole:
            gguf = whole[0]
        elif pieces := pieces_in(weights):
            gguf = scratch / "joined.gguf"
            digest = join_pieces(pieces, gguf)
        else:
            raise CheckError(f"{weights} holds neither a model (config.json), a GGUF file nor its pieces")
    if sha256 is not None and (digest := digest or sha256_of(gguf)) != sha256.lower():
        raise CheckError(f"{gguf.name} has SHA-256 {digest}; expected {sha256.lower()}")
    return dequantised(gguf, scratch / "model")


def dequantised(gguf: Path, folder: Path) -> Path:
    """`folder`, with the weights of `gguf` in bfloat16 and its tokenizer."""
    if importlib.util.find_spec("gguf") is None:
        raise CheckError("the weights are a GGUF file; reading one needs the gguf package")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    sys.path.insert(0, str(ROOT))
    from kaelum_graph.models.local import quiet_loading

    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    try:
        with quiet_loading():
            tokenizer = AutoTokenizer.from_pretrained(**source)
            model = AutoModelForCausalLM.from_pretrained(
                **source, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
            )
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    except Exception as error:
        raise CheckError(f"{gguf.name} cannot be read: {str(error).splitlines()[0]}") from error
    return folder


def require_cuda() -> str:
    """The GPU's name. Raises `CheckError` where there is none, or where a package is missing."""
    for package in ("torch", "transformers", "pytest"):
        if importlib.util.find_spec(package) is None:
            raise CheckError(f"the {package} package is not installed")
    import torch

    if not torch.cuda.is_available():
        raise CheckError(f"no CUDA device: torch {torch.__version__} sees none on this machine")
    return torch.cuda.get_device_name()


def run_tests() -> int:
    """Exit status of pytest over the engine's tests, on the GPU; the project's conftest would fetch models."""
    files = [str(ROOT / "tests" / "engine" / name) for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", "-m", "not model"]
    # Plugins that the project's own settings speak of may be missing here, and no test of these needs one.
    command += ["-W", "ignore:Unknown config option:pytest.PytestConfigWarning"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    return subprocess.run([*command, *files], cwd=ROOT, env=environment, check=False).returncode


def run_throughput(folder: Path, batches: str, tokens: int) -> int:
    """Exit status of the throughput table on the GPU."""
    script = ROOT / "benchmarks" / "throughput.py"
    options = ["--model", str(folder), "--batches", batches, "--tokens", str(tokens), "--device", "cuda"]
    return subprocess.run([sys.executable, str(script), *options], cwd=ROOT, check=False).returncode


def main(arguments: Sequence[str] | None = None) -> int:
    """Check; 0 when the tests pass and the table is printed, 2 where the check cannot be made."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--weights", type=Path, required=True, help="a model folder, a GGUF file, or a folder of pieces"
    )
    parser.add_argument("--sha256", help="what the GGUF file must hash to")
    parser.add_argument("--batches", default="1,32,128", help="sequences at once (default 1,32,128)")
    parser.add_argument("--tokens", type=int, default=128, help="new tokens a sequence (default 128)")
    options = parser.parse_args(arguments)
    try:
        print(f"GPU: {require_cuda()}", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            folder = model_folder(options.weights, sha256=options.sha256, scratch=Path(scratch))
            tests = run_tests()
            table = run_throughput(folder, options.batches, options.tokens)
    except CheckError as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return 2
    return tests or table


if __name__ == "__main__":
    raise SystemExit(main())

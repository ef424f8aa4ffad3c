"""Runs the engine's tests and its throughput table on a CUDA machine that has torch and transformers and no network.

    python benchmarks/gpu_check.py --weights FOLDER

`FOLDER` is a model as `save_pretrained` writes it, or holds a GGUF file, whole or in pieces (`NAME.gguf.part0`, … or
`part00.bin`, …) that are joined in numeric order; `--weights FILE.gguf` names the file itself. A GGUF file is checked
against `--sha256`, or else against the catalogue of known files.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from kaelum_graph.errors import KaelumError  # noqa: E402
from kaelum_graph.models.catalogue import MODELS  # noqa: E402
from kaelum_graph.models.conversion import convert_gguf  # noqa: E402
from kaelum_graph.models.parts import checked_sha256, join_parts, part_number  # noqa: E402

TESTS = (
    "test_sampling.py",
    "test_detokenizer.py",
    "test_running_sample.py",
    "test_local_model.py",
    "test_padded.py",
    "test_continuous.py",
    "test_architectures.py",
)


class CheckError(Exception):
    """Why the check cannot be made, in one line."""


def model_folder(weights: Path, *, sha256: str | None, scratch: Path) -> Path:
    """A folder that transformers loads, made in `scratch` where `weights` is a GGUF file or its pieces."""
    if not weights.exists():
        raise CheckError(f"{weights} does not exist")
    if weights.is_dir() and (weights / "config.json").is_file():
        return weights
    gguf = gguf_file(weights, scratch)
    digest = checked_sha256(gguf)
    known = {entry.pinned.sha256: entry.name for entry in MODELS.values() if entry.pinned}
    if sha256 is not None and digest != sha256.lower():
        raise CheckError(f"{gguf.name} has SHA-256 {digest}; expected {sha256.lower()}")
    print(f"weights: SHA-256 {digest}, {known.get(digest, 'not in the catalogue')}", flush=True)
    if importlib.util.find_spec("gguf") is None:
        raise CheckError("the weights are a GGUF file; reading one needs the gguf package")
    folder = scratch / "model"
    folder.mkdir()
    convert_gguf(gguf, folder)
    return folder


def gguf_file(weights: Path, scratch: Path) -> Path:
    """The GGUF file that `weights` is or holds; joined into `scratch` where it is in pieces."""
    if weights.is_file():
        return weights
    if whole := sorted(weights.glob("*.gguf")):
        return whole[0]
    pieces = [path for path in weights.iterdir() if part_number(path.name) is not None]
    if not pieces:
        raise CheckError(f"{weights} holds neither a model (config.json), a GGUF file nor its pieces")
    return join_parts(pieces, scratch / "joined.gguf")


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
    # The conversion runs in a process of its own, which must find this package too.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    try:
        print(f"GPU: {require_cuda()}", flush=True)
        with tempfile.TemporaryDirectory() as scratch:
            folder = model_folder(options.weights, sha256=options.sha256, scratch=Path(scratch))
            tests = run_tests()
            table = run_throughput(folder, options.batches, options.tokens)
    except (CheckError, KaelumError) as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        return 2
    return tests or table


if __name__ == "__main__":
    raise SystemExit(main())

"""A GGUF file as a folder that transformers loads in seconds: dequantised once, in a process of its own.

Run as `python -m kaelum_graph.models.conversion FILE FOLDER`, so that the gigabytes it takes go back to the system.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kaelum_graph.errors import WeightsError


def convert_gguf(file: Path, folder: Path) -> None:
    """Write `file` into `folder` in bfloat16, with its tokenizer and chat template. Raises `WeightsError`."""
    result = subprocess.run(
        [sys.executable, "-m", __name__, str(file), str(folder)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise WeightsError(f"{file.name} could not be converted: {lines[-1]}")


def main(file: Path, folder: Path) -> None:
    """The conversion itself."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

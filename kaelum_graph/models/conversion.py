"""A GGUF file as a folder that transformers loads in seconds: dequantised once, in a process of its own.

Run as `python -m kaelum_graph.models.conversion FILE FOLDER`, so that the gigabytes it takes go back to the system.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from kaelum_graph.errors import WeightsError
from kaelum_graph.models.disk import no_space, says_full

MAGIC = b"GGUF"
END_TOKENS = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end|>")


def convert_gguf(file: Path, folder: Path) -> None:
    """Write `file` into `folder` in bfloat16, with its tokenizer and chat template.

    Raises `WeightsError` with the last line of what went wrong; `OSError` when `file` can't be read or a disk is full.
    """
    with file.open("rb") as start:
        if start.read(len(MAGIC)) != MAGIC:
            raise WeightsError(f"{file.name} is not a GGUF file: it does not begin with the letters GGUF.")
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    # Every file it needs is here, and the CPU does it: what a GPU has in use is left alone.
    environment = os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(file.absolute()), str(folder.absolute())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=environment,
    )
    with process:
        try:
            assert process.stderr is not None
            errors = process.stderr.read()  # not communicate(): the child takes the end of its input for our death
            code = process.wait()
        except BaseException:
            process.kill()
            raise
    if code == 0:
        return
    if says_full(errors):
        raise no_space()
    if code == -9:
        raise WeightsError(f"{file.name}: its conversion was killed; it probably ran out of memory.")
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    raise WeightsError(f"{file.name} cannot be converted: {lines[-1] if lines else f'exit code {code}'}")


def main(file: Path, folder: Path) -> None:
    """The conversion itself."""
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    # transformers parses the header three times, for tokenizer, configuration and weights; a vocabulary of 150,000
    # takes seconds each time.
    setattr(gguf, "GGUFReader", functools.cache(gguf.GGUFReader))  # noqa: B010

    source: dict[str, Any] = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    model = AutoModelForCausalLM.from_pretrained(
        **source, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    # A GGUF file knows one end token; a chat model may end its turn with another.
    vocabulary = tokenizer.get_vocab()
    ends = {tokenizer.eos_token_id} | {vocabulary[token] for token in END_TOKENS if token in vocabulary}
    model.generation_config = GenerationConfig(
        eos_token_id=sorted(token for token in ends if token is not None) or None,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _end_with_parent() -> None:
    """End this process when its standard input ends: its parent is gone, and nobody wants the result."""

    def wait() -> None:
        # Not sys.stdin.read(): its lock, held by a waiting thread, is fatal to an interpreter that exits.
        while os.read(0, 1):
            continue
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    _end_with_parent()
    main(Path(sys.argv[1]), Path(sys.argv[2]))

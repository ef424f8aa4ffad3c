"""Tokens a second of the local engine, side by side with plain `model.generate` on the same prompts.

    python benchmarks/throughput.py --model FOLDER --batches 1,8,32 --tokens 64

Each contender runs in a process of its own, so that its peak memory is its own; they take turns, so that whatever else
the machine does falls on all alike. Prompts come in two kinds: `shared` (as a search asks: 8 samples of each prompt)
and `distinct` (every sequence its own prompt). A figure is all tokens generated over wall-clock, prompts included; on
a machine that others use as well, `--clock cpu --threads 1` counts the process's own CPU seconds instead.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

Kind = Literal["shared", "distinct"]
Clock = Literal["wall", "cpu"]
Figures = dict[str, list[float]]

CONTENDERS = ("generate", "padded", "continuous")
KINDS: tuple[Kind, ...] = ("shared", "distinct")
SAMPLES_OF_A_PROMPT = 8
TEMPERATURE, TOP_P = 0.7, 0.95
STORY = (
    "A farmer keeps {0} sheep, {1} cows and {2} hens in three fields. Every morning she counts the animals of each "
    "field, writes the numbers in a book and compares them with those of the day before. On some days a few animals "
    "have jumped a fence, and she has to find out which field they came from and where they went. "
)
TASK = "Write a long and detailed story about the farmer's week, day by day, with all numbers worked out."


def prompt_text(number: int) -> str:
    """Prompt `number`: 90 to 340 words, none like another."""
    return STORY.format(11 + number, 23 + 2 * number, 57 + 3 * number) * (1 + number % 4) + TASK


def prompts_of(kind: Kind, batch: int) -> list[tuple[str, int]]:
    """Prompts and how many samples of each, `batch` sequences in all."""
    if kind == "distinct":
        return [(prompt_text(number), 1) for number in range(batch)]
    counts = [min(SAMPLES_OF_A_PROMPT, batch - at) for at in range(0, batch, SAMPLES_OF_A_PROMPT)]
    return [(prompt_text(number), count) for number, count in enumerate(counts)]


class PlainGenerate:
    """`model.generate` as its documentation shows it: one padded batch, library sampling."""

    def __init__(self, folder: Path, device: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from kaelum_graph.models.local import preferred_dtype, quiet_loading

        with quiet_loading():
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, padding_side="left")
            dtype = preferred_dtype(torch.device(device))
            model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        self._model = model.to(device)
        # Out of the mapped file, whose pages the system may drop while others take their turn.
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    def run(self, prompts: Sequence[tuple[str, int]], tokens: int) -> int:
        """Generate; how many tokens came."""
        texts = [self._chat(text) for text, count in prompts for _ in range(count)]
        inputs = self._tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(
            self._model.device
        )
        output = self._model.generate(
            **inputs, do_sample=True, temperature=TEMPERATURE, top_p=TOP_P, top_k=0, max_new_tokens=tokens
        )
        new = output[:, inputs.input_ids.shape[1] :]
        return int((new != self._tokenizer.pad_token_id).sum())

    def _chat(self, text: str) -> str:
        turns = [{"role": "user", "content": text}]
        return self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)


class Engine:
    """This package's local model with one of its engines."""

    def __init__(self, folder: Path, device: str, engine: Literal["padded", "continuous"], max_batch: int) -> None:
        from kaelum_graph.models.local import LocalPolicyModel

        self._model = LocalPolicyModel.load(folder, name="bench", device=device, engine=engine, max_batch=max_batch)
        if self._model.engine_name != engine:
            raise RuntimeError(f"the {engine} engine does not carry this model")

    def run(self, prompts: Sequence[tuple[str, int]], tokens: int) -> int:
        """Generate; how many tokens came."""
        from kaelum_graph.models.base import GenerationRequest, Sampling
        from kaelum_graph.types import Message

        sampling = Sampling(temperature=TEMPERATURE, top_p=TOP_P, max_tokens=tokens)
        requests = [
            GenerationRequest(messages=(Message("user", text),), n=count, sampling=sampling) for text, count in prompts
        ]
        generations = self._model.generate(requests)
        for generation in generations:
            if generation.error is not None:
                raise generation.error
        return sum(sample.completion_tokens for generation in generations for sample in generation.samples)


def contend(pipe: Connection, name: str, folder: str, device: str, max_batch: int, threads: int | None) -> None:
    """Body of a contender's process: load, then run what the pipe asks for until it says None."""
    try:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        contender: PlainGenerate | Engine
        if name == "generate":
            contender = PlainGenerate(Path(folder), device)
        elif name in ("padded", "continuous"):
            contender = Engine(Path(folder), device, name, max_batch)
        else:
            raise ValueError(f"no contender named {name}")
        contender.run([("Hello", 1)], 2)
        pipe.send(("ready", peak_memory_gb(device)))
        while (task := pipe.recv()) is not None:
            kind, batch, tokens, clock = task
            now = time.process_time if clock == "cpu" else time.perf_counter
            start = now()
            count = contender.run(prompts_of(kind, batch), tokens)
            pipe.send(("done", count / (now() - start), peak_memory_gb(device)))
    except Exception as error:
        pipe.send(("failed", f"{type(error).__name__}: {error}"))


def peak_memory_gb(device: str) -> tuple[float, float]:
    """Peak resident memory and peak CUDA memory of this process, in GB."""
    import torch

    # Linux counts kilobytes, macOS bytes.
    scale = 1e9 if sys.platform == "darwin" else 1e6
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    return resident, torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0


def measure(
    folder: Path,
    *,
    device: str,
    batches: Sequence[int],
    tokens: int,
    repeats: int,
    contenders: list[str],
    clock: Clock = "wall",
    threads: int | None = None,
) -> dict[str, Any]:
    """Figures by contender, kind and batch; contenders take turns within each repeat."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    processes: list[Any] = []
    figures: dict[str, Figures] = {name: {} for name in contenders}
    memory: dict[str, tuple[float, float]] = {}
    failures: dict[str, str] = {}

    def ask(name: str) -> Any:
        try:
            reply: Any = pipes[name].recv()
        except EOFError:
            reply = ("failed", "its process died")
        if reply[0] == "failed":
            failures[name] = reply[1]
            return None
        memory[name] = reply[-1]
        return reply

    for name in contenders:
        pipes[name], theirs = context.Pipe()
        args = (theirs, name, str(folder), device, max(batches), threads)
        process = context.Process(target=contend, args=args, daemon=True)
        process.start()
        theirs.close()
        processes.append(process)
        ask(name)
    for kind in KINDS:
        for batch in batches:
            if kind == "distinct" and batch == 1:
                continue
            for repeat in range(repeats):
                for name in contenders[repeat % len(contenders) :] + contenders[: repeat % len(contenders)]:
                    if name in failures:
                        continue
                    pipes[name].send((kind, batch, tokens, clock))
                    if (reply := ask(name)) is not None:
                        figures[name].setdefault(f"{kind} {batch}", []).append(reply[1])
                        print(f"{kind} {batch} {name}: {reply[1]:.1f} tokens/s", file=sys.stderr, flush=True)
    for name, process in zip(contenders, processes, strict=True):
        if name not in failures:
            pipes[name].send(None)
        process.join(timeout=30)
    return {"figures": figures, "memory_gb": memory, "failures": failures}


def hardware(device: str) -> str:
    """The machine in one line."""
    import torch

    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    model = platform.processor() or platform.machine()
    features = ""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
        flags = next((line for line in lines if line.startswith("flags")), "").split()
        features = ", " + " ".join(flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in flags)
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} CPUs{features}, torch {torch.__version__}"


def table(results: dict[str, Any], *, title: str) -> str:
    """The figures as a markdown table: median (minimum to maximum), and the ratio to plain generate."""
    figures: dict[str, Figures] = results["figures"]
    names = [name for name in figures if figures[name]]
    rows = [title, "", "| prompts, sequences | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for case in figures[names[0]] if names else ():
        base = statistics.median(figures["generate"][case]) if figures.get("generate", {}).get(case) else None
        cells: list[str] = []
        for name in names:
            values = figures[name].get(case)
            if not values:
                cells.append("")
                continue
            middle = statistics.median(values)
            ratio = f", {middle / base:.2f}×" if base and name != "generate" else ""
            cells.append(f"{middle:.1f} ({min(values):.1f} to {max(values):.1f}){ratio}")
        rows.append(f"| {case} | " + " | ".join(cells) + " |")
    peaks = [
        f"{results['memory_gb'][name][0]:.2f} GB"
        + (f", CUDA {results['memory_gb'][name][1]:.2f} GB" if results["memory_gb"][name][1] else "")
        for name in names
    ]
    rows.append("| peak memory | " + " | ".join(peaks) + " |")
    rows.extend(f"\n{name} did not run: {reason}" for name, reason in results["failures"].items())
    return "\n".join(rows)


def model_folder(name: str | None) -> Path:
    """A folder given, or that of a named model (the default one without a name)."""
    if name is not None and Path(name).is_dir():
        return Path(name)
    from kaelum_graph.models.weights import default_cache_dir, resolve_model

    return resolve_model(name or "qwen2.5-coder-0.5b", cache_dir=default_cache_dir())


def positive_ints(text: str) -> list[int]:
    """`1,8,32` as numbers, each at least 1."""
    numbers = [int(part) for part in text.split(",")]
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError("expected positive numbers with commas between them")
    return numbers


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="a model's folder or name (default: the default model)")
    parser.add_argument("--batches", type=positive_ints, default=[1, 8, 32], help="sequences at once (default 1,8,32)")
    parser.add_argument("--tokens", type=int, default=64, help="new tokens a sequence (default 64)")
    parser.add_argument("--repeats", type=int, default=3, help="interleaved repeats (default 3)")
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="which of generate, padded, continuous")
    parser.add_argument("--device", help="cpu or cuda (default: cuda when there is one)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="count wall-clock or CPU seconds")
    parser.add_argument("--threads", type=int, help="threads of torch (default: its own choice)")
    parser.add_argument("--json", type=Path, help="write all figures here")
    options = parser.parse_args(arguments)

    import torch

    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    folder = model_folder(options.model)
    results = measure(
        folder,
        device=device,
        batches=options.batches,
        tokens=options.tokens,
        repeats=options.repeats,
        contenders=options.contenders.split(","),
        clock=options.clock,
        threads=options.threads,
    )
    results |= {"hardware": hardware(device), "model": folder.name, "tokens": options.tokens}
    per = "CPU second" if options.clock == "cpu" else "second"
    threads = f", {options.threads} threads" if options.threads else ""
    title = f"{folder.name}, {options.tokens} new tokens a sequence, tokens a {per}; {results['hardware']}{threads}"
    print(table(results, title=title))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

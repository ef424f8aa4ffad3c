"""What the server adds to its upstream, how it bears a crowd, and what it makes of upstream faults.

    python benchmarks/server.py                # all three, about three minutes
    python benchmarks/server.py --part overhead --requests 400

Three processes on loopback: a fast upstream that answers by rule, `kaelum serve` in front of it, and this one, which
asks. *overhead*: the same request to the upstream and through `kaelum-direct`, in turns, so that whatever else the
machine does falls on both. *crowd*: 200 clients at once, each asking several times, through `kaelum-direct` and through
the search; errors, latencies and the server's memory before and at its highest. *faults*: an upstream that refuses,
stalls, limits, fails, cuts its stream or talks nonsense; each must end in a clear error or, after a retry, in the right
answer, within the time given.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

UPSTREAM_MODEL = "parrot"
WORDS = "The sum of two and two is four and nothing else will do .".split()
FAULTS = ("refused", "stalled", "limited", "failing", "cut", "nonsense")
FAULT_SECONDS = 30.0


async def upstream(port: int) -> None:
    """A chat-completions server of a few lines: fast, deterministic, and faulty where the prompt says so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(
                    (int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:")), 0
                )
                body = json.loads(await reader.readexactly(length)) if length else {}
                if await answer(head, body, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


async def answer(head: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
    """Answer one request; true where the connection is to be closed."""
    asked = json.dumps(body.get("messages", ""))
    if head.startswith("GET"):
        model = {"id": UPSTREAM_MODEL, "object": "model", "owned_by": "vllm", "max_model_len": 8192}
        write_json(writer, 200, {"object": "list", "data": [model]})
    elif "FAULT limited" in asked:
        write_json(writer, 429, {"error": {"message": "slow down", "type": "rate_limit_error"}}, "retry-after: 1\r\n")
    elif "FAULT failing" in asked:
        write_json(writer, 500, {"error": {"message": "it broke", "type": "server_error"}})
    elif "FAULT nonsense" in asked:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{nonsense")
    elif "FAULT stalled" in asked:
        await asyncio.sleep(3600)
    elif body.get("stream"):
        await stream(writer, body, cut="FAULT cut" in asked)
        return "FAULT cut" in asked
    else:
        message = {"role": "assistant", "content": " ".join(WORDS)}
        choices = [
            {"index": at, "message": message, "finish_reason": "stop", "logprobs": None}
            for at in range(body.get("n") or 1)
        ]
        write_json(writer, 200, {**envelope("chat.completion"), "choices": choices, "usage": usage(len(choices))})
    await writer.drain()
    return False


async def stream(writer: asyncio.StreamWriter, body: dict[str, Any], *, cut: bool) -> None:
    """A streamed completion of the words, a chunk a word."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    count = body.get("n") or 1

    def send(payload: str) -> None:
        data = f"data: {payload}\n\n".encode()
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def chunk(choices: list[dict[str, Any]], **more: Any) -> str:
        return json.dumps({**envelope("chat.completion.chunk"), "choices": choices, **more})

    for at, word in enumerate(WORDS):
        if cut and at == 3:
            return
        text = word if at == 0 else f" {word}"
        logprobs = {"content": [{"token": text, "logprob": -0.1, "bytes": None, "top_logprobs": []}]}
        for index in range(count):
            delta = {"role": "assistant", "content": text}
            send(chunk([{"index": index, "delta": delta, "finish_reason": None, "logprobs": logprobs}]))
    for index in range(count):
        send(chunk([{"index": index, "delta": {}, "finish_reason": "stop"}]))
    send(chunk([], usage=usage(count)))
    send("[DONE]")
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def envelope(kind: str) -> dict[str, Any]:
    """What every reply carries."""
    return {"id": "up-1", "object": kind, "created": 1, "model": UPSTREAM_MODEL}


def usage(count: int) -> dict[str, int]:
    """Tokens of `count` choices."""
    return {"prompt_tokens": 12, "completion_tokens": len(WORDS) * count, "total_tokens": 12 + len(WORDS) * count}


def write_json(writer: asyncio.StreamWriter, status: int, body: dict[str, Any], headers: str = "") -> None:
    """One whole JSON reply."""
    data = json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n{headers}\r\n"
    writer.write(head.encode() + data)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: Sequence[str], url: str, *, seconds: float = 120.0) -> Generator[subprocess.Popen[bytes]]:
    """A process that answers at `url` before the block begins, ended after it."""
    import httpx2

    paths = [str(ROOT), str(ROOT / "graphs"), str(ROOT / "adapters")]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + seconds
        while True:
            if process.poll() is not None or time.monotonic() > limit:
                raise SystemExit(f"{' '.join(command)}: did not come up (exit code {process.poll()})")
            try:
                if httpx2.get(url, timeout=2.0).status_code == 200:
                    break
            except httpx2.HTTPError:
                time.sleep(0.1)
            else:
                time.sleep(0.1)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


def memory_mib(process: subprocess.Popen[bytes]) -> float:
    """Resident memory of a process."""
    import psutil

    return psutil.Process(process.pid).memory_info().rss / 2**20


def body_of(model: str, text: str, **more: Any) -> dict[str, Any]:
    """A chat request."""
    return {"model": model, "messages": [{"role": "user", "content": text}], "temperature": 0.5, **more}


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of all lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def interval_of_median(values: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """95% bootstrap interval of the median."""
    chance = random.Random(seed)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(1000))
    return medians[25], medians[974]


async def overhead(direct: str, through: str, *, requests: int) -> list[str]:
    """Milliseconds of the same request to the upstream and through the server, in turns, streamed and not."""
    import httpx2

    lines = ["| | upstream p50 | through kaelum-direct p50 | added p50 (95%) | added p95 |", "|---|---|---|---|---|"]
    async with httpx2.AsyncClient(timeout=60.0) as client:

        async def timed(url: str, model: str, at: int, streamed: bool) -> float:
            began = time.perf_counter()
            reply = await client.post(
                f"{url}/chat/completions", json=body_of(model, f"What is 2 + 2? ({at})", stream=streamed)
            )
            took = 1000 * (time.perf_counter() - began)
            if reply.status_code != 200 or "four" not in reply.text:
                raise SystemExit(f"{model}: {reply.status_code} {reply.text[:200]}")
            return took

        for streamed in (False, True):
            alone: list[float] = []
            added: list[float] = []
            both: list[float] = []
            for at in range(requests + 20):
                first = await timed(direct, UPSTREAM_MODEL, at, streamed)
                second = await timed(through, "kaelum-direct", at, streamed)
                if at >= 20:  # the first ones open connections and fill caches
                    alone.append(first)
                    both.append(second)
                    added.append(second - first)
            low, high = interval_of_median(added)
            lines.append(
                f"| {'streamed' if streamed else 'whole'}, {requests} pairs | {statistics.median(alone):.1f} ms | "
                f"{statistics.median(both):.1f} ms | {statistics.median(added):.1f} ms ({low:.1f}–{high:.1f}) | "
                f"{percentile(added, 0.95):.1f} ms |"
            )
    return lines


async def crowd(through: str, server: subprocess.Popen[bytes], *, clients: int, each: int) -> list[str]:
    """Many clients at once; each waits for one answer before it asks again."""
    import httpx2

    lines = ["| | requests | errors | p50 | p99 | p99 / p50 | requests/s | memory before, highest |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    limits = httpx2.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx2.AsyncClient(timeout=300.0, limits=limits) as client:
        for model, asks in (("kaelum-direct", each), ("kaelum", max(1, each // 4))):
            before = highest = memory_mib(server)
            took: list[float] = []
            errors: Counter[str] = Counter()

            async def one(
                number: int, model: str = model, asks: int = asks, took: list[float] = took,
                errors: Counter[str] = errors,
            ) -> None:  # fmt: skip
                for at in range(asks):
                    began = time.perf_counter()
                    more = {} if model == "kaelum-direct" else {"kaelum": {"sims": 4, "cache": False}}
                    reply = await client.post(
                        f"{through}/chat/completions", json=body_of(model, f"What is 2 + 2? ({number}, {at})", **more)
                    )
                    if reply.status_code == 200:
                        took.append(time.perf_counter() - began)
                    else:
                        errors[f"{reply.status_code} {reply.text[:80]}"] += 1

            began = time.perf_counter()
            work = asyncio.gather(*(one(number) for number in range(clients)))
            while not work.done():
                highest = max(highest, memory_mib(server))
                await asyncio.wait([work], timeout=0.2)
            await work
            seconds = time.perf_counter() - began
            if not took:
                raise SystemExit(f"{model}: no request was answered: {errors.most_common(3)}")
            p50, p99 = percentile(took, 0.5), percentile(took, 0.99)
            lines.append(
                f"| {model}, {clients} clients | {clients * asks} | {sum(errors.values())} | {p50:.2f} s | "
                f"{p99:.2f} s | {p99 / p50:.1f} | {len(took) / seconds:.0f} | {before:.0f}, {highest:.0f} MiB |"
            )
            lines += [f"    {count} × {error}" for error, count in errors.most_common(3)]
    return lines


async def faults(through: str) -> list[str]:
    """What a client sees of each fault, for the plain model and for the search."""
    import httpx2

    lines = ["| Fault | model | status | after | what the client reads |", "|---|---|---|---|---|"]
    async with httpx2.AsyncClient(timeout=FAULT_SECONDS + 15) as client:
        for fault in FAULTS[1:]:
            for model in ("kaelum-direct", "kaelum"):
                search = {"kaelum": {"deadline_ms": 1000 * FAULT_SECONDS / 2, "cache": False}}
                more = {} if model == "kaelum-direct" else search
                began = time.perf_counter()
                try:
                    reply = await client.post(
                        f"{through}/chat/completions", json=body_of(model, f"FAULT {fault}: what is 2 + 2?", **more)
                    )
                    status, text = str(reply.status_code), reply.text
                except httpx2.HTTPError as error:
                    status, text = type(error).__name__, str(error)
                seconds = time.perf_counter() - began
                told = text
                if text.startswith("{"):
                    reply_body = json.loads(text)
                    told = (
                        reply_body["error"]["message"]
                        if "error" in reply_body
                        else "an answer: " + str(reply_body["choices"][0]["message"]["content"])
                    )
                lines.append(f"| {fault} | {model} | {status} | {seconds:.1f} s | {told[:120]} |")
    return lines


def main() -> None:
    """Run the parts asked for and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=("overhead", "crowd", "faults"))
    parser.add_argument("--requests", type=int, default=300, help="pairs of requests for the overhead")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--each", type=int, default=8, help="requests of one client, a quarter of that of the search")
    parser.add_argument("--upstream", type=int, metavar="PORT", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.upstream:
        asyncio.run(upstream(arguments.upstream))
        return
    parts = arguments.part or ["overhead", "crowd", "faults"]
    up, port = free_port(), free_port()
    direct, through = f"http://127.0.0.1:{up}/v1", f"http://127.0.0.1:{port}/v1"
    with tempfile.TemporaryDirectory() as folder:
        serve = [
            sys.executable, "-m", "kaelum_graph", "serve", "--port", str(port), "--base-url", direct,
            "--data-dir", folder, "--max-running", "64", "--queue-size", str(2 * arguments.clients),
        ]  # fmt: skip
        with (
            running([sys.executable, __file__, "--upstream", str(up)], f"{direct}/models"),
            running(serve, f"http://127.0.0.1:{port}/ready") as server,
        ):
            if "overhead" in parts:
                print("\n".join(asyncio.run(overhead(direct, through, requests=arguments.requests))), end="\n\n")
            if "crowd" in parts:
                told = crowd(through, server, clients=arguments.clients, each=arguments.each)
                print("\n".join(asyncio.run(told)), end="\n\n")
            if "faults" in parts:
                print("\n".join(asyncio.run(faults(through))), end="\n\n")
    if "faults" in parts:
        with tempfile.TemporaryDirectory() as folder:
            gone = [*serve[: serve.index("--base-url") + 1], f"http://127.0.0.1:{free_port()}/v1", "--data-dir", folder]
            with running(gone, f"http://127.0.0.1:{port}/health"):
                import httpx2

                began = time.perf_counter()
                reply = httpx2.post(f"{through}/chat/completions", json=body_of("kaelum-direct", "2 + 2?"), timeout=60)
                told = reply.json().get("error", {}).get("message", "an answer")
                print(f"refused: {reply.status_code} after {time.perf_counter() - began:.1f} s: {told[:160]}")


if __name__ == "__main__":
    main()

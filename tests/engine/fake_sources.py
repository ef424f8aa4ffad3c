"""Where weights come from, made small and local: wheels in a folder or behind an index that stalls, a hub, a GGUF."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def make_wheel(folder: Path, package: str, files: Mapping[str, bytes], *, version: str = "1.0") -> Path:
    """A minimal wheel that pip downloads; `files` by their path in it."""
    stem = package.replace("-", "_")
    path = folder / f"{stem}-{version}-py3-none-any.whl"
    info = f"{stem}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


class Server:
    """An HTTP server on loopback for as long as the context lasts; `asked` are the paths of its GET requests."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.stalled = threading.Event()  # set once an answer stopped half-way
        self.go_on = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, handler: _Handler, path: str) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, fake: Server, *arguments: object) -> None:
        self.fake = fake
        super().__init__(*arguments)  # pyright: ignore[reportArgumentType]

    def do_GET(self) -> None:
        self.fake.asked.append(self.path)
        self.fake.answer(self, self.path)

    def do_HEAD(self) -> None:
        self.fake.answer(self, self.path)

    def reply(
        self, body: bytes, *, status: int = 200, kind: str = "text/html", stall: bool = False, **headers: str
    ) -> None:
        """Send `body`; with `stall` half of it, the rest when the server is told to go on."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if stall:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.fake.stalled.set()
            self.fake.go_on.wait(60)
            body = body[len(body) // 2 :]
        try:
            self.wfile.write(body)
        except OSError:
            return  # whoever asked was killed

    def log_message(self, format: str, *args: object) -> None:
        return


class PackageIndex(Server):
    """The wheels of a folder as a package index; the wheels named in `stalls` stop half-way."""

    def __init__(self, folder: Path, *, stalls: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self._folder, self._stalls = folder, stalls

    @property
    def wheels_asked(self) -> list[str]:
        return [path.split("/")[-1] for path in self.asked if path.endswith(".whl")]

    def answer(self, handler: _Handler, path: str) -> None:
        parts = path.strip("/").split("/")
        if parts[0] == "files":
            stall = parts[1] in self._stalls and not self.go_on.is_set()
            handler.reply((self._folder / parts[1]).read_bytes(), kind="application/octet-stream", stall=stall)
            return
        stem = parts[1].replace("-", "_")
        names = [wheel.name for wheel in self._folder.glob(f"{stem}-*.whl")]
        links = "".join(f'<a href="/files/{name}">{name}</a>' for name in names)
        handler.reply(f"<!DOCTYPE html><html><body>{links}</body></html>".encode(), status=200 if names else 404)


class FakeHub(Server):
    """A hub with the repositories given, as files by name; an empty name answers the probe alone."""

    def __init__(self, repositories: Mapping[str, Mapping[str, bytes]]) -> None:
        super().__init__()
        self.repositories = repositories
        self.status = 200

    def answer(self, handler: _Handler, path: str) -> None:
        if self.status != 200:
            handler.reply(b"", status=self.status)
            return
        if path == "/":
            handler.reply(b"a hub")
            return
        repository = "/".join(path.removeprefix("/api/models").strip("/").split("/")[:2])
        files = self.repositories.get(repository.split("?")[0])
        if files is None:
            handler.reply(b"{}", status=404, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        elif "/tree/" in path:
            tree = [{"type": "file", "path": name, "size": len(data), "oid": "0"} for name, data in files.items()]
            handler.reply(json.dumps(tree).encode(), kind="application/json")
        elif path.startswith("/api/models"):
            siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
            info = {"id": repository, "sha": COMMIT, "siblings": siblings, "private": False, "tags": [], "gated": False}
            handler.reply(json.dumps(info).encode(), kind="application/json")
        else:
            name = path.split("/resolve/")[1].split("/", 1)[1]
            data = files.get(name)
            if data is None:
                handler.reply(b"", status=404, X_Error_Code="EntryNotFound")
                return
            etag = f'"{abs(hash(data)):040x}"'
            handler.reply(data, kind="application/octet-stream", ETag=etag, X_Repo_Commit=COMMIT)


def write_gguf(path: Path) -> None:
    """A Qwen 2 of one layer with random weights and a byte vocabulary, in the form that llama.cpp writes."""
    import gguf

    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + at) for at, byte in enumerate(others)}
    tokens = [characters[byte] for byte in range(256)] + ["ab", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_name("tiny")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 257 + [3] * 3)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(259)
    writer.add_bos_token_id(257)
    writer.add_pad_token_id(257)
    writer.add_chat_template(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    random = np.random.default_rng(0)
    shapes = {
        "token_embd.weight": (260, 32), "output.weight": (260, 32), "output_norm.weight": (32,),
        "blk.0.attn_norm.weight": (32,), "blk.0.ffn_norm.weight": (32,),
        "blk.0.attn_q.weight": (32, 32), "blk.0.attn_q.bias": (32,),
        "blk.0.attn_k.weight": (16, 32), "blk.0.attn_k.bias": (16,),
        "blk.0.attn_v.weight": (16, 32), "blk.0.attn_v.bias": (16,), "blk.0.attn_output.weight": (32, 32),
        "blk.0.ffn_up.weight": (64, 32), "blk.0.ffn_gate.weight": (64, 32), "blk.0.ffn_down.weight": (32, 64),
    }  # fmt: skip
    for name, shape in shapes.items():
        writer.add_tensor(name, (random.standard_normal(shape) * 0.02).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

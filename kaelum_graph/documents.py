"""A folder of texts as a retriever: cut at paragraphs, embedded by MiniLM, searched by cosine in FAISS.

The vectors are kept in the cache folder under a hash of the texts, so that a folder is embedded once and again only
when it changes.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kaelum_graph.encoder import EMBEDDING_SIZE, Encoder
from kaelum_graph.errors import ConfigError
from kaelum_graph.retrieval import MOST_CHARACTERS, MOST_PASSAGES, Passage
from kaelum_graph.sentences import sentences

SUFFIXES = (".txt", ".md")
MOST_FILES = 2_000
MOST_ENTRIES = 100_000
"""Files of any kind after which a folder counts as too big: `--documents /` must not look at a whole disk."""
MOST_FILE_BYTES = 4 * 2**20
MOST_BYTES = 32 * 2**20
MOST_CUTS = 20_000
MIN_COSINE = 0.25
"""Below it a passage has nothing to do with the question. Over twelve texts and a paraphrased question on each, the
right text had 0.47 to 0.68, the nearest to a question on something else 0.14 at most."""
KEPT_INDEXES = 8
BATCH = 64
_CUT_VERSION = b"1"

Files = tuple[tuple[str, int, int], ...]
"""Path below the folder, bytes and time of change of each file, sorted."""


@dataclass(frozen=True, slots=True)
class _Read:
    """One state of the folder: what is in it, its hash, its passages, and its index once that is needed."""

    files: Files
    key: str
    passages: tuple[Passage, ...]


class Documents:
    """A `Retriever` over the .txt and .md files below a folder. Thread-safe.

    `encoder` is called at the first question. A folder that changes is read anew. `notify` hears of files that were
    left out and of embedding, which takes about a second for a hundred passages.
    """

    def __init__(
        self, folder: Path, *, encoder: Callable[[], Encoder], cache_dir: Path, notify: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self._encoder = encoder
        self._cache = cache_dir / "documents"
        self._notify = notify
        self._reading, self._indexing = threading.Lock(), threading.Lock()
        self._read: _Read | None = None
        self._index: tuple[str, Any] | None = None

    @property
    def key(self) -> str:
        """A hash of what is in the folder now. Raises `ConfigError` when it can't be read."""
        return self._current().key

    def __call__(self, question: str) -> Sequence[Passage]:
        """Up to eight passages of cosine `MIN_COSINE` or more, nearest first. Raises `ConfigError`."""
        read = self._current()
        if not read.passages:
            return ()
        with self._indexing:
            index = self._indexed(read)
        cosines, places = index.search(self._encoder().encode([question]), min(2 * MOST_PASSAGES, len(read.passages)))
        return [
            read.passages[place]
            for cosine, place in zip(cosines[0], places[0], strict=True)
            if place >= 0 and cosine >= MIN_COSINE
        ]

    def _current(self) -> _Read:
        with self._reading:
            files = text_files(self.folder)
            if self._read is None or self._read.files != files:
                self._read = self._take_in(files)
            return self._read

    def _take_in(self, files: Files) -> _Read:
        digest = hashlib.sha256(_CUT_VERSION)
        passages: list[Passage] = []
        left_out: list[str] = []
        for name, size, _ in files:
            text = None if size > MOST_FILE_BYTES else read_text(self.folder / name)
            if text is None:
                left_out.append(name)
                continue
            digest.update(f"{name}\0{len(text)}\0{text}".encode(errors="replace"))
            passages += cut(text, source=name)
        if len(passages) > MOST_CUTS:
            raise ConfigError(f"documents: {self.folder} makes {len(passages):,} passages; at most {MOST_CUTS:,} go.")
        if left_out:
            self._notify(
                f"documents: {len(left_out)} of {len(files)} files left out, over {MOST_FILE_BYTES // 2**20} MiB or no "
                f"text: {', '.join(left_out[:3])}{', …' if len(left_out) > 3 else ''}"
            )
        return _Read(files, digest.hexdigest(), tuple(passages))

    def _indexed(self, read: _Read) -> Any:
        if self._index is None or self._index[0] != read.key:
            path = self._cache / f"{read.key[:32]}.faiss"
            index = _load(path, len(read.passages))
            if index is None:
                self._notify(f"documents: embedding {len(read.passages):,} passages of {self.folder}, once")
                index = _embedded(read.passages, self._encoder())
                _keep(index, path)
            self._index = (read.key, index)
        return self._index[1]


def check_folder(folder: Path) -> None:
    """Raises `ConfigError` unless `folder` can be read, holds a text, and is of a size to be read whole. Reads none."""
    if not text_files(folder):
        raise ConfigError(f"documents has value '{folder}': there is no {' or '.join(SUFFIXES)} file in it.")


def text_files(folder: Path) -> Files:
    """The texts below a folder. Hidden ones and links that lead out of it are passed over. Raises `ConfigError`."""
    if not folder.is_dir():
        raise ConfigError(f"documents has value '{folder}': expected a folder with {' or '.join(SUFFIXES)} files.")
    found: list[tuple[str, int, int]] = []
    for path in _files(folder):
        with suppress(OSError):
            state = path.stat()
            found.append((path.relative_to(folder).as_posix(), state.st_size, state.st_mtime_ns))
    size = sum(size for _, size, _ in found)
    if len(found) > MOST_FILES or size > MOST_BYTES:
        raise ConfigError(
            f"documents has value '{folder}': {len(found):,} files of {size / 2**20:,.0f} MiB are too many; at most "
            f"{MOST_FILES:,} of {MOST_BYTES // 2**20} MiB go."
        )
    return tuple(sorted(found))


def _files(folder: Path) -> Iterator[Path]:
    entries, root = 0, folder.resolve()

    def refuse(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise ConfigError(f"documents has value '{folder}': {error.strerror}.") from error

    for directory, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        entries += len(names)
        if entries > MOST_ENTRIES:
            raise ConfigError(f"documents has value '{folder}': there are over {MOST_ENTRIES:,} files in it.")
        for name in names:
            path = Path(directory, name)
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES or not path.is_file():
                continue
            if not path.is_symlink() or path.resolve().is_relative_to(root):
                yield path


def read_text(path: Path) -> str | None:
    """A file's text, whatever its encoding; None for what is no text or can't be read."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def cut(text: str, *, source: str) -> list[Passage]:
    """A text as passages of up to 600 characters: paragraphs, joined while they are short, parted where too long.

    A Markdown heading is the title of what follows it; without one the file's name is.
    """
    title, found = Path(source).stem.replace("_", " "), list[Passage]()
    parts: list[str] = []

    def close() -> None:
        if parts:
            found.append(Passage(text=" ".join(parts), source=source, title=title))
            parts.clear()

    for paragraph in re.split(r"\n\s*\n|(?m:^(?=#{1,6}\s))", text.replace("\r\n", "\n").replace("\r", "\n")):
        heading = re.match(r"#{1,6}[ \t]+(?P<title>[^\n]*?)[ \t]*#*[ \t]*(?:\n|\Z)", paragraph)
        if heading:
            close()
            title = heading["title"] or title
            paragraph = paragraph[heading.end() :]
        for piece in _pieces(" ".join(paragraph.split())):
            if parts and sum(map(len, parts)) + len(parts) + len(piece) > MOST_CHARACTERS:
                close()
            parts.append(piece)
    close()
    return found


def _pieces(paragraph: str) -> Iterator[str]:
    """A paragraph whole, or its sentences when it is too long for a passage; a sentence too long at its words."""
    if len(paragraph) <= MOST_CHARACTERS:
        if paragraph:
            yield paragraph
        return
    for sentence in sentences(paragraph):
        while len(sentence) > MOST_CHARACTERS:
            end = sentence.rfind(" ", 1, MOST_CHARACTERS)
            end = end if end > 0 else MOST_CHARACTERS
            yield sentence[:end].strip()
            sentence = sentence[end:].strip()
        if sentence:
            yield sentence


def _embedded(passages: Sequence[Passage], encoder: Encoder) -> Any:
    import faiss

    texts = [f"{passage.title}. {passage.text}" for passage in passages]
    # In batches, so that the encoder is free for other queries in between.
    rows = [encoder.encode(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
    index = faiss.IndexFlatIP(EMBEDDING_SIZE)
    index.add(np.concatenate(rows))  # pyright: ignore[reportCallIssue]
    return index


def _load(path: Path, passages: int) -> Any | None:
    """The index kept at `path`; None when there is none, or it is damaged."""
    import faiss

    if not path.is_file():
        return None
    try:
        index = faiss.read_index(str(path))
    except RuntimeError:
        return None
    if index.d != EMBEDDING_SIZE or index.ntotal != passages:
        return None
    with suppress(OSError):
        path.touch()  # the least recently used goes first
    return index


def _keep(index: Any, path: Path) -> None:
    """Write the index beside `path` and rename it there. A cache that can't be written is none, and no error."""
    import faiss

    beside = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(faiss.serialize_index(index).tobytes())
        beside.replace(path)
        kept = sorted(path.parent.glob("*.faiss"), key=lambda each: -each.stat().st_mtime_ns)
        for old in kept[KEPT_INDEXES:]:
            old.unlink(missing_ok=True)
    except OSError:
        with suppress(OSError):
            beside.unlink(missing_ok=True)

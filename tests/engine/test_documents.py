"""A folder as a retriever: what is read, how it is cut, what is found, and what is kept."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from kaelum_graph import documents
from kaelum_graph.documents import Documents, check_folder, cut, read_text, text_files
from kaelum_graph.encoder import Encoder
from kaelum_graph.errors import ConfigError
from kaelum_graph.retrieval import MOST_CHARACTERS

TEXTS = {
    "canberra.txt": "Canberra became the seat of Australia's government in 1927, as a compromise between two rivals.",
    "iron.md": "# Iron\n\nIron is a metal with the symbol Fe. It rusts when it meets water and air.",
    "everest.txt": "Mount Everest rises 8,849 metres above the sea, more than any other mountain.",
    "tolstoy.txt": "Leo Tolstoy wrote War and Peace, a novel about Russia in the time of Napoleon.",
    "wall.txt": "The Berlin Wall came down on 9 November 1989 after twenty-eight years.",
    "yen.txt": "In Japan people pay in yen; the notes are printed by the National Printing Bureau.",
    "penicillin.txt": "Alexander Fleming noticed in 1928 that a mould killed bacteria: this was penicillin.",
    "bees.txt": "Honey bees tell one another where flowers are by a dance on the comb.",
    "tides.txt": "The pull of the Moon and the Sun makes the sea rise and fall twice a day.",
    "bread.txt": "Yeast turns sugar into gas, which lifts the dough before it is baked.",
    "chess.txt": "A bishop moves along the diagonals and never leaves the colour it begins on.",
    "marathon.txt": "A marathon is 42.195 kilometres long; the distance was settled in London in 1908.",
}
QUESTIONS = {
    "Which town is the capital of the Australians?": "canberra.txt",
    "What does the chemical abbreviation Fe stand for?": "iron.md",
    "What is the height of the tallest peak on Earth?": "everest.txt",
    "Who is the author of the Russian epic about the Napoleonic wars?": "tolstoy.txt",
    "When did Germans tear down the barrier between East and West?": "wall.txt",
    "What money is used in Tokyo?": "yen.txt",
    "Who found the first antibiotic?": "penicillin.txt",
    "How do insects that make honey share the place of food?": "bees.txt",
    "Why does the water at the coast go up and down?": "tides.txt",
    "What makes a loaf grow in the oven?": "bread.txt",
    "Which piece in the board game can only go diagonally?": "chess.txt",
    "How far do runners go in the longest Olympic road race?": "marathon.txt",
}
UNRELATED = ("What is 17 times 23?", "Write a function that sorts a list.", "Who is the president of Peru?")


class CountingEncoder(Encoder):
    """The real encoder, which counts the texts it is given."""

    texts = 0

    def encode(self, texts: object) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = super().encode(texts)  # pyright: ignore[reportArgumentType]
        self.texts += len(found)
        return found


@pytest.fixture(scope="module")
def encoder(encoder_folder: Path) -> CountingEncoder:
    return CountingEncoder(encoder_folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    return folder


def over(folder: Path, encoder: Encoder, cache: Path, notices: list[str] | None = None) -> Documents:
    return Documents(folder, encoder=lambda: encoder, cache_dir=cache, notify=(notices or []).append)


def test_the_right_text_is_first_for_at_least_ten_of_twelve_paraphrases(
    folder: Path, encoder: Encoder, tmp_path: Path
) -> None:
    found = over(folder, encoder, tmp_path)
    first = {question: next((passage.source for passage in found(question)), "") for question in QUESTIONS}
    missed = {question: source for question, source in first.items() if source != QUESTIONS[question]}
    assert len(missed) <= 2, missed


def test_a_question_about_something_else_finds_nothing(folder: Path, encoder: Encoder, tmp_path: Path) -> None:
    found = over(folder, encoder, tmp_path)
    assert [question for question in UNRELATED if found(question)] == []


def test_a_folder_is_embedded_once_and_again_when_it_changes(
    folder: Path, encoder: CountingEncoder, tmp_path: Path
) -> None:
    def asked(documents: Documents) -> int:
        before = encoder.texts
        assert documents("Which town is the capital of the Australians?")[0].source == "canberra.txt"
        return encoder.texts - before

    one = over(folder, encoder, tmp_path)
    assert asked(one) == 13
    assert asked(one) == 1
    again = over(folder, encoder, tmp_path)
    assert asked(again) == 1, "the index was kept"
    assert again.key == one.key
    (index,) = (tmp_path / "documents").iterdir()
    index.write_bytes(b"damaged")
    assert asked(over(folder, encoder, tmp_path)) == 13
    (folder / "new.txt").write_text("Kangaroos carry their young in a pouch.")
    assert asked(one) == 14
    assert one.key == over(folder, encoder, tmp_path).key
    assert one("Where do marsupials keep their babies?")[0].source == "new.txt"


def test_old_indexes_go_and_a_cache_that_cannot_be_written_is_no_error(
    folder: Path, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "KEPT_INDEXES", 2)
    found = over(folder, encoder, tmp_path / "cache")
    for number in range(4):
        (folder / "more.txt").write_text(f"Number {number} is written here.")
        os.utime(folder / "more.txt", ns=(number, number))
        found("Which number is written here?")
    assert len(list((tmp_path / "cache" / "documents").iterdir())) == 2
    (tmp_path / "file").write_text("x")
    assert over(folder, encoder, tmp_path / "file")("Which number is written here?")


def test_encodings_are_read_and_what_is_no_text_is_left_out_with_a_notice(
    folder: Path, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, data in {
        "utf8.txt": "\ufeffEl año".encode(),
        "utf16.txt": "El año".encode("utf-16"),
        "western.txt": "El año".encode("cp1252"),
    }.items():
        (folder / name).write_bytes(data)
        assert read_text(folder / name) == "El año"
    (folder / "binary.txt").write_bytes(b"\x7fELF\0\0")
    monkeypatch.setattr(documents, "MOST_FILE_BYTES", 150)
    (folder / "large.md").write_text("word " * 40)
    notices: list[str] = []
    found = Documents(folder, encoder=lambda: encoder, cache_dir=tmp_path, notify=notices.append)
    assert len(found.key) == 64
    assert len(notices) == 1
    assert "2 of 17 files left out" in notices[0]
    assert "binary.txt, large.md" in notices[0]


def test_paragraphs_are_joined_while_short_and_parted_where_long() -> None:
    short = cut("One.\n\nTwo\nlines.\r\n\r\nThree.", source="a/my_notes.txt")
    assert [(passage.text, passage.title, passage.source) for passage in short] == [
        ("One. Two lines. Three.", "my notes", "a/my_notes.txt")
    ]
    long = cut("A sentence of some length stands here. " * 60 + "\n\n" + "x" * 1500, source="b.txt")
    assert all(0 < len(passage.text) <= MOST_CHARACTERS for passage in long)
    assert "".join(passage.text for passage in long).replace(" ", "").count("x") == 1500
    assert sum(passage.text.count("sentence") for passage in long) == 60


def test_a_heading_is_the_title_of_what_follows() -> None:
    passages = cut("Before.\n# Iron\nA metal.\n\n## Rust\n\nIt is red.\n# \nLast.", source="metals.md")
    assert [(passage.title, passage.text) for passage in passages] == [
        ("metals", "Before."), ("Iron", "A metal."), ("Rust", "It is red."), ("Rust", "Last."),
    ]  # fmt: skip


def test_hidden_files_other_kinds_and_links_that_lead_out_are_passed_over(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "in.txt").symlink_to(folder / "iron.md")
    (folder / "dangling.txt").symlink_to(folder / "nothing")
    for name in (".hidden.txt", "program.py", ".git/config.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    (folder / "sub").mkdir()
    (folder / "sub" / "UPPER.TXT").write_text("x")
    assert {name for name, _, _ in text_files(folder)} == {*TEXTS, "in.txt", "sub/UPPER.TXT"}


@pytest.mark.parametrize(
    ("limit", "value", "part"),
    [("MOST_FILES", 11, "are too many"), ("MOST_BYTES", 500, "are too many"), ("MOST_ENTRIES", 5, "over 5 files")],
)
def test_a_folder_that_is_too_big_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, part: str
) -> None:
    check_folder(folder)
    monkeypatch.setattr(documents, limit, value)
    with pytest.raises(ConfigError, match=part):
        check_folder(folder)


def test_too_many_passages_are_refused(
    folder: Path, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "MOST_CUTS", 11)
    with pytest.raises(ConfigError, match="makes 12 passages; at most 11 go"):
        over(folder, encoder, tmp_path)("q")

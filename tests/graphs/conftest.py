"""A Kaelum over a scripted model; every other part is real."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from kaelum_flow.facade import Kaelum
from kaelum_graph.config import Settings
from kaelum_graph.encoder import Encoder
from kaelum_graph.sandbox import ProcessSandbox
from tests.graphs.scripted_model import Script, ScriptedModel

MakeKaelum = Callable[..., Kaelum]


@pytest.fixture(scope="session")
def encoder(encoder_folder: Path) -> Encoder:
    return Encoder(encoder_folder)


@pytest.fixture(scope="session")
def sandbox() -> Generator[ProcessSandbox]:
    sandbox = ProcessSandbox()
    yield sandbox
    sandbox.close()


@pytest.fixture
def make_kaelum(tmp_path: Path, encoder: Encoder, sandbox: ProcessSandbox) -> Generator[MakeKaelum]:
    """`make_kaelum(script, **settings)`: a Kaelum whose model says what the script says."""
    made: list[Kaelum] = []

    def make(script: Script, *, seconds: float = 0.0, **settings: object) -> Kaelum:
        kaelum = Kaelum(
            Settings.model_validate({"data_dir": tmp_path / "data", "seed": 1, **settings}),
            model=ScriptedModel(script, seconds=seconds),
            encoder=encoder,
            sandbox=sandbox,
        )
        made.append(kaelum)
        return kaelum

    yield make
    for kaelum in made:
        kaelum.close()


@pytest.fixture
def no_audits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No query is kept for audit: ids are drawn at random, and of one in ten nothing is to be learned."""
    monkeypatch.setattr("kaelum_flow.nodes.is_audit", lambda episode_id: False)

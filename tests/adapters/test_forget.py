"""`kaelum state forget` beside a running server: what is forgotten is in no byte of any file of the data folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from openai import BadRequestError, NotFoundError

from kaelum_adapters.openai_api import completion_store, responses_store
from kaelum_adapters.openai_api.app import create_app
from kaelum_flow.facade import Kaelum
from kaelum_graph.cli import main
from kaelum_graph.errors import StorageError
from kaelum_graph.keepers import CONVERSATION_GROUP, KEEPER_GROUP, all_keepers, all_linkers
from kaelum_graph.models import weights
from kaelum_graph.storage import STORE_FILE, Storage
from kaelum_graph.structures.store import STRUCTURES_FILE
from kaelum_graph.types import Tool
from tests.adapters.responses_client import Player, key_of, last_said, openai_of, server_app
from tests.graphs.conftest import MakeKaelum
from tests.graphs.scripted_model import always

SECRET, OTHER = "Quillfeather", "Bystander"
# Checks can read both: the book keeps no question that none can vote on.
QUESTION = f"How many vowels are in the word '{SECRET}'?"
FOLLOWING = f"And how many are in '{OTHER}'?"
ASIDE = f"Write the word '{OTHER}' backwards."

Forget = Callable[..., Any]


@pytest.fixture
def kaelum(request: pytest.FixtureRequest, make_kaelum: MakeKaelum) -> Kaelum:
    """With `learning` as the test's parameter says, else on."""
    said = always("First I subtract.\nThe answer is \\boxed{5}")
    return make_kaelum(said, worker="math", sims=2, structures=True, learning=getattr(request, "param", True))


learns_nothing = pytest.mark.parametrize("kaelum", [False], ids=["no learning"], indirect=True)


@pytest.fixture
def forget(
    kaelum: Kaelum,
    tmp_path: Path,
    encoder_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Forget:
    """`forget(*arguments)`: what `kaelum state forget ARGUMENTS --json` printed."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(weights, "resolve_encoder", lambda **_: encoder_folder)

    def run(*arguments: str, json_too: bool = True) -> Any:
        capsys.readouterr()
        flags = ["--json"] if json_too else []
        code = main(["state", "forget", *arguments, *flags, "--data-dir", str(kaelum.settings.data_dir)])
        printed, errors = capsys.readouterr()
        assert code == 0, errors
        return json.loads(printed) if json_too else printed

    return run


def holding(kaelum: Kaelum, text: str) -> set[str]:
    """The names of the files in the data folder in whose bytes `text` is."""
    while True:
        found = [path for path in kaelum.settings.data_dir.rglob("*") if path.is_file()]
        assert len(found) > 2
        try:
            return {path.name.removesuffix("-wal") for path in found if text.encode() in path.read_bytes()}
        except FileNotFoundError:  # the learner has given one that it was making its name: look again
            continue


async def ask_every_way(app: FastAPI, question: str, *, key: str = "none") -> tuple[str, str]:
    """The episode of a completion, which is rated, and that of a response; both are kept."""
    async with openai_of(app, key=key) as client:
        messages: Any = [{"role": "user", "content": question}]
        uncached: Any = {"kaelum": {"cache": False}}
        made = await client.chat.completions.create(model="kaelum", messages=messages, store=True, extra_body=uncached)
        body = {"id": made.id, "score": 0.0, "answer": f"{question} It is not 5."}
        await client.post("/feedback", body=body, cast_to=object)
        kept = await client.responses.create(model="kaelum", input=question, extra_body=uncached)
    story: Any = kept.to_dict()["kaelum"]
    return made.id.removeprefix("chatcmpl-"), story["id"]


@pytest.mark.usefixtures("no_audits")  # what is kept for audit gets into no book
@pytest.mark.parametrize("whose", ["episode", "tenant"])
async def test_no_byte_is_left_of_what_is_forgotten(kaelum: Kaelum, forget: Forget, whose: str) -> None:
    tenant, other = ("ann", "bob") if whose == "tenant" else ("", "")
    keys = {one: key_of(kaelum, one) for one in {tenant, other} if one}
    app = create_app(kaelum)
    completed, responded = await ask_every_way(app, QUESTION, key=keys.get(tenant, "none"))
    await ask_every_way(app, ASIDE, key=keys.get(other, "none"))
    assert kaelum.services.learned.learner.drain(60)
    # A tenant's questions never get into the book, only what they teach.
    assert holding(kaelum, SECRET) == ({STORE_FILE} if tenant else {STORE_FILE, STRUCTURES_FILE})

    told = forget("--tenant", tenant) if tenant else forget("--episode", completed, "--episode", responded)
    assert sorted(told["episodes"]) == sorted([completed, responded])
    assert told["unlearned"]
    assert told["rows"]["responses"] == 4, "a response, what went in, what came out: reasoning and a message"
    assert told["rows"]["completions"] == 1
    assert told["rows"]["structures"] >= 2
    assert holding(kaelum, SECRET) == set()
    for episode_id in (completed, responded):
        assert STORE_FILE not in holding(kaelum, f"chatcmpl-{episode_id}")
    assert holding(kaelum, OTHER) == ({STORE_FILE} if tenant else {STORE_FILE, STRUCTURES_FILE}), "it is where it was"

    # The server and its book go on, in the files that were written anew under them.
    again, _ = await ask_every_way(app, QUESTION, key=keys.get(tenant, "none"))
    assert again != completed
    assert holding(kaelum, SECRET) != set()


@learns_nothing
async def test_a_conversation_of_responses_goes_whole(kaelum: Kaelum, forget: Forget) -> None:
    app = create_app(kaelum)
    first, second = await ask_every_way(app, ASIDE)
    async with openai_of(app) as client:
        one = await client.responses.create(model="kaelum", input=QUESTION)
        two = await client.responses.create(model="kaelum", input=FOLLOWING, previous_response_id=one.id)
        three = await client.responses.create(model="kaelum", input="Why?", previous_response_id=two.id)
        ids = [response.to_dict()["kaelum"]["id"] for response in (one, two, three)]  # pyright: ignore
        # Named by any of them: each later one has the question in its history.
        assert sorted(forget("--conversation", ids[1])["episodes"]) == sorted(ids)
        for response in (one, two, three):
            with pytest.raises(NotFoundError, match=f"'{response.id}'"):
                await client.responses.retrieve(response.id)
    assert holding(kaelum, SECRET) == set()
    assert kaelum.services.storage.has_episode(first)
    assert kaelum.services.storage.has_episode(second)


@learns_nothing
async def test_a_response_whose_beginning_was_forgotten_can_be_read_and_not_gone_on_from(
    kaelum: Kaelum, forget: Forget
) -> None:
    async with openai_of(create_app(kaelum)) as client:
        one = await client.responses.create(model="kaelum", input=QUESTION)
        two = await client.responses.create(model="kaelum", input=FOLLOWING, previous_response_id=one.id)
        forget("--episode", one.id.removeprefix("resp_"))
        kept = await client.responses.retrieve(two.id)
        assert (kept.previous_response_id, kept.output_text) == (one.id, two.output_text)
        for previous in (one.id, two.id):
            with pytest.raises(BadRequestError, match=f"no response '{one.id}' is kept") as refused:
                await client.responses.create(model="kaelum", input="Why?", previous_response_id=previous)
            assert (refused.value.code, refused.value.param) == (
                "previous_response_not_found",
                "previous_response_id",
            )


@learns_nothing
async def test_a_retry_gets_nothing_back_of_what_was_forgotten(kaelum: Kaelum, forget: Forget) -> None:
    async with openai_of(create_app(kaelum)) as client:
        once: Any = {"Idempotency-Key": "once"}
        one = await client.responses.create(model="kaelum", input=QUESTION, extra_headers=once)
        same = await client.responses.create(model="kaelum", input=QUESTION, extra_headers=once)
        assert same.id == one.id
        forget("--episode", one.id.removeprefix("resp_"))
        other = await client.responses.create(model="kaelum", input=QUESTION, extra_headers=once)
        assert other.id != one.id


@learns_nothing
async def test_what_a_tenant_has_beside_its_episodes_goes_too(kaelum: Kaelum, forget: Forget) -> None:
    kaelum.services.storage.counts()
    keys = {tenant: key_of(kaelum, tenant) for tenant in ("ann", "bob")}
    app = server_app(kaelum, Player(last_said))  # its runs leave no episodes
    for tenant, key in keys.items():
        async with openai_of(app, key=key) as client:
            await client.responses.create(model="kaelum", input=f"{SECRET} of {tenant}")
    assert forget("--tenant", "ann", json_too=False) == "0 episodes deleted; rows deleted with that: responses 3\n"
    assert holding(kaelum, f"{SECRET} of ann") == set()
    assert holding(kaelum, f"{SECRET} of bob") == {STORE_FILE}


@pytest.mark.parametrize("letters", [32, 8])
@pytest.mark.parametrize("kaelum", [True, False], ids=["learning", "no learning"], indirect=True)
async def test_what_an_interrupted_forgetting_left_goes_when_it_is_run_again(
    kaelum: Kaelum, forget: Forget, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], letters: int
) -> None:
    completed, responded = await ask_every_way(create_app(kaelum), QUESTION)
    named = ["--episode", completed[:letters], "--episode", responded[:letters]]
    with monkeypatch.context() as broken:

        def refuse(self: Storage) -> None:
            raise StorageError("no room to wipe")

        broken.setattr(Storage, "wipe", refuse)
        assert main(["state", "forget", *named, "--data-dir", str(kaelum.settings.data_dir)]) == 5
        told = capsys.readouterr().err
        assert "2 episodes deleted, but not yet all that is kept elsewhere: run it again: no room to wipe" in told
    assert not kaelum.services.storage.has_episode(completed)
    told = forget(*named)
    assert (told["episodes"], sorted(told["completed"])) == ([], sorted([completed, responded]))
    assert holding(kaelum, SECRET) == set()
    assert kaelum.services.storage.pending_forgets() == []


@learns_nothing
async def test_what_was_killed_before_the_others_forgot_goes_with_whatever_is_forgotten_next(
    kaelum: Kaelum, forget: Forget
) -> None:
    uncached: Any = {"kaelum": {"cache": False}}
    async with openai_of(create_app(kaelum)) as client:
        one = await client.responses.create(model="kaelum", input=QUESTION, extra_body=uncached)
        two = await client.responses.create(model="kaelum", input=ASIDE, extra_body=uncached)
        kaelum.services.storage.forget_episodes([one.id.removeprefix("resp_")])
        assert holding(kaelum, SECRET) != set()
        forget("--episode", two.id.removeprefix("resp_"))
        with pytest.raises(NotFoundError, match=f"'{one.id}'"):
            await client.responses.retrieve(one.id)
    assert holding(kaelum, SECRET) == set()


@learns_nothing
async def test_an_id_that_is_there_again_keeps_what_it_has(kaelum: Kaelum, forget: Forget) -> None:
    uncached: Any = {"kaelum": {"cache": False}}
    storage = kaelum.services.storage
    async with openai_of(create_app(kaelum)) as client:
        one = await client.responses.create(model="kaelum", input=ASIDE, extra_body=uncached)
        two = await client.responses.create(model="kaelum", input=QUESTION, extra_body=uncached)
        [kept] = storage.forget_episodes([one.id.removeprefix("resp_")])
        storage.append_episode(kept, ASIDE, {})  # as a host does that resumes its run
        assert forget("--episode", two.id.removeprefix("resp_"))["completed"] == []
        assert (await client.responses.retrieve(one.id)).output_text == one.output_text
        assert forget("--episode", kept)["episodes"] == [kept]
        with pytest.raises(NotFoundError, match=f"'{one.id}'"):
            await client.responses.retrieve(one.id)


@learns_nothing
async def test_another_conversation_that_began_with_the_same_cached_answer_stays(
    kaelum: Kaelum, forget: Forget
) -> None:
    async with openai_of(create_app(kaelum)) as client:
        mine = await client.responses.create(model="kaelum", input=QUESTION)
        hers = await client.responses.create(model="kaelum", input=QUESTION)
        story: Any = hers.to_dict()["kaelum"]
        assert story["id"] == mine.id.removeprefix("resp_")
        my_next = await client.responses.create(model="kaelum", input=FOLLOWING, previous_response_id=mine.id)
        her_next = await client.responses.create(model="kaelum", input=ASIDE, previous_response_id=hers.id)
        ids = [response.id.removeprefix("resp_") for response in (mine, my_next)]
        assert sorted(forget("--conversation", ids[1])["episodes"]) == sorted(ids)
        assert (await client.responses.retrieve(her_next.id)).output_text == her_next.output_text
        assert kaelum.services.storage.has_episode(her_next.id.removeprefix("resp_"))


@learns_nothing
@pytest.mark.parametrize("named", [0, 2])
async def test_turns_of_a_conversation_that_no_search_answered_go_too(
    kaelum: Kaelum, forget: Forget, named: int
) -> None:
    async with openai_of(create_app(kaelum)) as client:
        one = await client.responses.create(model="kaelum", input=ASIDE)
        two = await client.responses.create(model="kaelum-direct", input=QUESTION, previous_response_id=one.id)
        three = await client.responses.create(model="kaelum", input=FOLLOWING, previous_response_id=two.id)
        other = await client.responses.create(model="kaelum-direct", input="Hello.")
        searched = [response.id.removeprefix("resp_") for response in (one, three)]
        told = forget("--conversation", (one, two, three)[named].id.removeprefix("resp_"))
        assert sorted(told["episodes"]) == sorted(searched)
        for response in (one, two, three):
            with pytest.raises(NotFoundError, match=f"'{response.id}'"):
                await client.responses.retrieve(response.id)
        assert (await client.responses.retrieve(other.id)).id == other.id
    assert holding(kaelum, SECRET) == set()


@learns_nothing
def test_an_answer_that_was_served_again_and_what_a_rating_says_of_itself_go_too(
    kaelum: Kaelum, forget: Forget
) -> None:
    first = kaelum.ask(QUESTION).id
    again = kaelum.ask(QUESTION, tools=[Tool(name="clock")])  # turns were sampled first: an episode of its own
    assert (again.cache, (kaelum.services.storage.episode(again.id) or {})["served"]) == ("hit", first)
    kaelum.feedback(first, score=1.0, key=f"{SECRET} quality", source=SECRET)
    assert forget("--episode", first)["episodes"] == [first, again.id]
    assert holding(kaelum, SECRET) == set()


def test_every_keeper_loads_and_makes_nothing(tmp_path: Path) -> None:
    assert {*all_keepers()} >= {"structures", "responses", "completions"}
    assert {*all_linkers()} >= {"responses"}
    points = [*entry_points(group=KEEPER_GROUP), *entry_points(group=CONVERSATION_GROUP)]
    assert len(points) >= 4
    for point in points:
        assert callable(point.load()), point
    for keeper in all_keepers().values():
        assert keeper(tmp_path, ["e1"], tenant="ann") == 0
    for linker in all_linkers().values():
        assert linker(tmp_path, ["e1"], earlier=True) == []
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_no_server_has_used_is_left_alone(tmp_path: Path) -> None:
    Storage(tmp_path / STORE_FILE).close()
    before = (tmp_path / STORE_FILE).read_bytes()
    assert responses_store.forget(tmp_path, ["e1"], tenant="") == 0
    assert completion_store.forget(tmp_path, ["e1"], tenant="") == 0
    assert responses_store.conversation(tmp_path, ["e1"], earlier=True) == []
    assert (tmp_path / STORE_FILE).read_bytes() == before

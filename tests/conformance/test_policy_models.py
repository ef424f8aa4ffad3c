"""One suite over every backend of the policy model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from kaelum_flow.chat_model_policy import ChatModelPolicy
from kaelum_graph.models.local import LocalPolicyModel
from kaelum_graph.models.openai_server import OpenAIPolicyModel
from tests.conformance.policy_model import Backend, PolicyModelConformance
from tests.engine.fake_openai_server import FakeServer
from tests.engine.tiny_models import SPECIAL, VOCABULARY, byte_tokenizer, random_qwen2
from tests.graphs.parrot_chat_model import ParrotChatModel

SERVERS = {
    "vllm": {"chunk_chars": 2},
    "llamacpp": {"owner": "llamacpp", "continuation": "plain", "stop": "ignored", "usage": "per_choice"},
    "bare": {
        "owner": "library",
        "n": "refused",
        "logprobs": "refused",
        "continuation": "refused",
        "stop": "ignored",
        "usage": "missing",
        "refuses": frozenset({"seed", "stream_options", "max_tokens"}),
        "echoes_draft": True,
    },
}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        yield running


def narrowed(layer: torch.nn.Linear, outputs: int) -> torch.nn.Linear:
    """The layer with its first `outputs` outputs alone."""
    narrow = torch.nn.Linear(layer.in_features, outputs, bias=False, device=layer.weight.device)
    with torch.no_grad():
        narrow.weight.copy_(layer.weight[:outputs])
    return narrow.eval()


class TestOpenAIServers(PolicyModelConformance):
    @pytest.fixture(scope="class", params=SERVERS)
    @classmethod
    def backend(cls, server: FakeServer, request: pytest.FixtureRequest) -> Iterator[Backend]:
        server.behave(word_seconds=0.002, **SERVERS[request.param])

        def make() -> OpenAIPolicyModel:
            return OpenAIPolicyModel(server.url, backoff_seconds=0.01)

        with make() as model:
            yield Backend(
                model=model, make=make, prompt="Please say 12", long_prompt="Please say 4000", bad="Serve this POISON"
            )


class TestLocalModel(PolicyModelConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def backend(cls) -> Iterator[Backend]:
        def make() -> LocalPolicyModel:
            network = random_qwen2(context=8192)
            # Without the rows of the special tokens it never ends a turn, which the tests of deadlines rely on.
            network.lm_head = narrowed(network.lm_head, VOCABULARY - len(SPECIAL))
            return LocalPolicyModel(network, byte_tokenizer(), name="random", max_batch=16)

        with make() as model:
            yield Backend(
                model=model,
                make=make,
                prompt="Say something random",
                long_prompt="Say much",
                bad="Too long for the window. " * 400,
            )


class TestChatModels(PolicyModelConformance):
    @pytest.fixture(scope="class", params=["able", "bare"])
    @classmethod
    def backend(cls, request: pytest.FixtureRequest) -> Iterator[Backend]:
        chat_model = ParrotChatModel(word_seconds=0.002, continues=True)
        if request.param == "bare":
            chat_model = ParrotChatModel(
                word_seconds=0.002, refuses=frozenset({"seed", "logprobs", "stop"}), echoes_draft=True
            )

        def make() -> ChatModelPolicy:
            return ChatModelPolicy(chat_model)

        with make() as model:
            yield Backend(
                model=model, make=make, prompt="Please say 12", long_prompt="Please say 4000", bad="Serve this POISON"
            )

"""The models that a client may name: the search, the search of one worker, and the plain model."""

from __future__ import annotations

from kaelum_graph.workers import all_workers

SEARCH = "kaelum"
DIRECT = "kaelum-direct"


def model_names() -> tuple[str, ...]:
    """Every name, the usual one first."""
    return (SEARCH, DIRECT, *(f"{SEARCH}-{worker}" for worker in sorted(all_workers())))


def worker_of(name: str) -> str | None:
    """The worker that a model's name forces; None where the router decides."""
    return None if name in (SEARCH, DIRECT) else name.removeprefix(f"{SEARCH}-")


def check_model(name: str) -> str:
    """A model's name as the client wrote it. Raises `ApiError` 404 where this server has no such model."""
    if name not in model_names():
        # Whoever only asks for the worker of a name, as the chat model does, needs no web framework.
        from kaelum_adapters.openai_api.errors import ApiError

        message = f"The model '{name}' does not exist here; there are {', '.join(model_names())}."
        raise ApiError(404, message, param="model", code="model_not_found")
    return name

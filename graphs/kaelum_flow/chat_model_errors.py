"""What an exception of a LangChain chat model means for the request that met it."""

from __future__ import annotations

from collections.abc import Container

from langchain_core import exceptions as langchain
from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from kaelum_graph.errors import KaelumError, UpstreamError
from kaelum_graph.models.feature_detection import context_overflow, refused_parameter
from kaelum_graph.models.upstream_errors import Failure, RefusedRequest, Server, overflow_failure

LOST = (langchain.ModelAuthenticationError, langchain.ModelConnectionError, langchain.ModelNotFoundError)
LOST_STATUS = frozenset({401, 403, 404})
LOST_NAMES = frozenset({"APIConnectionError", "ConnectError", "ConnectTimeout", "ConnectionRefusedError", "gaierror"})
"""Exceptions of providers' clients, none of which is a dependency here."""


def described(chat_model: BaseChatModel, name: str) -> Server:
    """How errors speak of the model; every secret among its fields is kept out of them."""
    values = [vars(chat_model).get(field) for field in type(chat_model).model_fields]
    secrets = tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))
    return Server(address=name, model=name, secrets=tuple(secret for secret in secrets if secret))


def read_chat_model_failure(
    error: BaseException, *, server: Server, sent: Container[str], prompt_tokens: int
) -> Failure:
    """The meaning of `error`. `sent` names the settings given; `prompt_tokens` estimates the prompt."""
    if isinstance(error, KaelumError):
        return Failure(error=error)
    if isinstance(error, TimeoutError):
        shown = server.hide(str(error))
        return Failure(error=UpstreamError(f"{server.address} stopped answering: {shown}").quoting(shown))
    detail = str(error) or type(error).__name__
    shown = server.hide(detail if isinstance(error, langchain.ModelError) else f"{type(error).__name__}: {detail}")
    if isinstance(error, langchain.ContextOverflowError):
        return overflow_failure(context_overflow(detail) or (None, None), detail, server, prompt_tokens)
    param = getattr(error, "param", None)
    refused = refused_parameter(detail, param=param if isinstance(param, str) else None, sent=sent)
    if refused:
        line = f"{server.address} does not accept {refused}: {shown}"
        return Failure(error=RefusedRequest(line).quoting(shown), refused=refused)
    status = getattr(error, "status_code", None)
    if status in (None, 400, 413, 422) and (numbers := context_overflow(detail)):
        return overflow_failure(numbers, detail, server, prompt_tokens)
    if isinstance(error, LOST) or status in LOST_STATUS or type(error).__name__ in LOST_NAMES:
        line = f"{server.address} is out of reach: {shown}"
        return Failure(error=UpstreamError(line).quoting(shown), lost_backend=True)
    refusal = isinstance(error, langchain.ModelInvalidRequestError | ValueError) or status in (400, 422)
    kind = RefusedRequest if refusal else UpstreamError
    return Failure(error=kind(f"{server.address} failed: {shown}").quoting(shown))

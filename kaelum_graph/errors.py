"""One class per boundary. Every error a user can cause ends as one line and an exit code."""

from __future__ import annotations

from typing import Self


class KaelumError(Exception):
    """Base of every error this package raises on purpose.

    `str(error)` is the one line a user sees; `exit_code` is what the command line returns. `quoted` is the part of the
    line that may hold prompts or answers, as a model or its server wrote it: logs leave it out.
    """

    exit_code: int = 1
    quoted: str = ""

    def quoting(self, text: str) -> Self:
        """This error, `text` in its line being a quotation."""
        self.quoted = text
        return self

    @property
    def without_quotation(self) -> str:
        """The line for a log."""
        return str(self).replace(self.quoted, "…") if self.quoted else str(self)


class UsageError(KaelumError):
    """The caller asked for something that makes no sense: an empty query, an unknown worker."""

    exit_code = 2


class UnknownEpisode(UsageError):
    """No stored episode has this id or query."""


class ConfigError(UsageError):
    """A setting has a value it must not have; names key, value, origin and expectation."""


class ModelError(KaelumError):
    """The policy model could not do its work."""

    exit_code = 3


class FormError(ModelError):
    """The model can't put its answer in the form that was asked for. Asked again it would most likely fail again."""


class WeightsError(ModelError):
    """Weights could not be found, fetched, checked or loaded."""


class HashMismatch(WeightsError):
    """A file's SHA-256 is not the pinned one. Names both; the file is not kept."""


class UpstreamError(ModelError):
    """A remote model server was unreachable, failed, or answered against its own protocol.

    `status` is its HTTP status where it gave one; `retry_after` the seconds after which it wants to be asked again.
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class ContextOverflow(ModelError):
    """The prompt does not fit the model's context window."""

    exit_code = 4

    def __init__(self, *, limit_tokens: int, prompt_tokens: int) -> None:
        self.limit_tokens = limit_tokens
        self.prompt_tokens = prompt_tokens
        # The wording is the one that every OpenAI client recognises.
        super().__init__(
            f"This model's maximum context length is {limit_tokens} tokens; "
            f"the messages have {prompt_tokens} (context_length_exceeded)."
        )


class StorageError(KaelumError):
    """Episodes or learned state could not be read or written (full disk, no permission)."""

    exit_code = 5


class SandboxError(KaelumError):
    """A program could not be run in isolation. Its result is unverified, never a pass."""


class VerifierError(KaelumError):
    """A verifier broke. Its evidence is unscored, never a pass or a fail."""

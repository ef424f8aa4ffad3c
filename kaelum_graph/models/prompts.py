"""Messages to prompt tokens, by the tokenizer's own chat template where it has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from kaelum_graph.errors import UsageError
from kaelum_graph.models.detokenizer import Decode
from kaelum_graph.types import Message, Role

END_OF_TURN = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_turn|>", "<end_of_turn>")


class ChatPrompt:
    """Encodes conversations for one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._backend = backend if hasattr(backend, "decode") else None
        # A tokenizer whose file sets truncation or padding drops that at its first use, which no thread must see.
        tokenizer.encode("a")

    def encode(self, messages: Sequence[Message], partial_answer: str = "") -> list[int]:
        """Prompt tokens up to the end of `partial_answer`, its trailing blanks left out (see `trailing_blanks`).

        Raises `UsageError` where the messages make no sense or the template refuses them.
        """
        check_messages(messages)
        if getattr(self._tokenizer, "chat_template", None):
            text = self._render(messages)
            # The template writes the begin-of-sequence token itself.
            ids = self._tokenizer.encode(text, add_special_tokens=False)
        else:
            turns = "".join(f"{message.role}: {message.content}\n" for message in messages)
            ids = self._tokenizer.encode(f"{turns}assistant:", add_special_tokens=True)
        answer = partial_answer[: len(partial_answer) - len(trailing_blanks(partial_answer))]
        if answer:
            # On its own, so that the turn's opening is the very tokens the model was trained on.
            ids = [*ids, *self._tokenizer.encode(answer, add_special_tokens=False)]
        return [int(token) for token in ids]

    @property
    def decode(self) -> Decode:
        """Ids to text, special tokens left out and nothing tidied up."""
        if self._backend is not None:
            backend = self._backend
            return lambda ids: backend.decode(ids, skip_special_tokens=True)
        return lambda ids: self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def eos_ids(self, *configs: Any) -> frozenset[int]:
        """Every id that ends a turn: by `configs` (each with `eos_token_id`), the tokenizer, or a well-known name."""
        found: set[int] = set()
        for owner in (*configs, self._tokenizer):
            ids = getattr(owner, "eos_token_id", None)
            found.update([ids] if isinstance(ids, int) else ids or ())
        vocabulary = self._tokenizer.get_vocab()
        found.update(vocabulary[name] for name in END_OF_TURN if name in vocabulary)
        return frozenset(found)

    def _render(self, messages: Sequence[Message]) -> str:
        try:
            return self._template(messages)
        except Exception as error:
            folded = _fold_system(messages)
            if folded is None:
                raise _refusal(error) from error
        try:
            return self._template(folded)
        except Exception as error:
            raise _refusal(error) from error

    def _template(self, messages: Sequence[Message]) -> str:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)


def trailing_blanks(text: str) -> str:
    """Spaces and tabs at the end of `text`.

    Most vocabularies join a blank to the word after it, so a prompt that ends in one asks for a word the model was
    never trained to begin there. It is left out of the prompt, and out of the text the model then begins with it.
    """
    return text[len(text.rstrip(" \t")) :]


def check_messages(messages: Sequence[Message]) -> None:
    """Raise `UsageError` where no answer to `messages` could be asked for."""
    if not messages:
        raise UsageError("messages is empty; it must hold at least one message")
    for position, message in enumerate(messages):
        if message.role not in get_args(Role) or not isinstance(message.content, str):
            raise UsageError(
                f"message {position} has role {message.role!r} and {type(message.content).__name__} content"
            )
    last = messages[-1]
    if last.role == "assistant":
        raise UsageError("the last message is the assistant's; give what it began as partial_answer")
    if not last.content.strip():
        raise UsageError("the last message is empty")


def _refusal(error: Exception) -> UsageError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UsageError(f"The model's chat template refuses these messages: {reason}")


def _fold_system(messages: Sequence[Message]) -> list[Message] | None:
    """The system prompt put before the first user turn, for templates that know no system role; None without one."""
    system = [message.content for message in messages if message.role == "system"]
    rest = [message for message in messages if message.role != "system"]
    if not system or not rest:
        return None
    return [Message(rest[0].role, "\n\n".join([*system, rest[0].content])), *rest[1:]]

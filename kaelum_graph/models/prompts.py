"""Messages to prompt tokens, by the tokenizer's own chat template where it has one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, get_args

from kaelum_graph.errors import UsageError
from kaelum_graph.models.detokenizer import Decode
from kaelum_graph.models.hermes import CLOSE, OPEN, arguments_of, tool_json, with_tools_as_text
from kaelum_graph.models.request_check import check_last_message
from kaelum_graph.types import Json, Message, Role, Tool, ToolCall

END_OF_TURN = ("<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|end_of_turn|>", "<end_of_turn>")
BREAK = "\ufdd0"
"""Where a prompt is cut for its encoding. No character, by Unicode; it never reaches the model."""


class ChatPrompt:
    """Encodes conversations for one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._backend = backend if hasattr(backend, "decode") else None
        # A tokenizer whose file sets truncation or padding drops that at its first use, which no thread must see.
        tokenizer.encode("a")
        self._control = _control_tokens(tokenizer)
        self._knows_tools = self._shows_tools()
        self.decode = self._decoder()
        """Ids to text, special tokens left out but for the tags of a call, and nothing tidied up."""

    def encode(self, messages: Sequence[Message], partial_answer: str = "", tools: Sequence[Tool] = ()) -> list[int]:
        """Prompt tokens up to the end of `partial_answer`, its trailing blanks left out (see `trailing_blanks`).

        Tools, calls and results go through the template where it writes calls as Hermes models do, else as text of
        that form. The name of a control token in any of them stays text: only the template opens and ends turns.
        Raises `UsageError` where the messages make no sense or the template refuses them.
        """
        check_messages(messages)
        if not self._knows_tools:
            messages, tools = with_tools_as_text(messages, tools), ()
        if getattr(self._tokenizer, "chat_template", None):
            text = self._render(messages, tools)
            # The template writes the begin-of-sequence token itself.
            ids = self._ids(text)
        else:
            turns = "".join(f"{message.role}: {self._broken(message.content)}\n" for message in messages)
            ids = self._ids(f"{turns}assistant:", add_special_tokens=True)
        answer = partial_answer[: len(partial_answer) - len(trailing_blanks(partial_answer))]
        if answer:
            # On its own, so that the turn's opening is the very tokens the model was trained on.
            ids += self._ids(self._broken(answer))
        return ids

    def _ids(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        first, *others = text.split(BREAK)
        ids = list(self._tokenizer.encode(first, add_special_tokens=add_special_tokens))
        for piece in others:
            ids += self._tokenizer.encode(piece, add_special_tokens=False)
        return [int(token) for token in ids]

    def _broken(self, value: Any) -> Any:
        """`value` with a break inside the name of each control token in its texts, so that it's encoded as plain text.

        A tokenizer's own switch for that (`split_special_tokens`) is shared by all threads.
        """
        if isinstance(value, str):
            return self._control.sub(rf"\g<0>{BREAK}", value)
        if isinstance(value, dict):
            return {self._broken(name): self._broken(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._broken(item) for item in value]
        return value

    def _decoder(self) -> Decode:
        if self._backend is not None:
            decode: Decode = partial(self._backend.decode, skip_special_tokens=True)
        else:
            tokenizer = self._tokenizer
            decode = partial(tokenizer.decode, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        added = self._tokenizer.get_added_vocab()
        hidden = {added[tag]: tag for tag in (OPEN, CLOSE) if tag in added and not decode([added[tag]])}
        return partial(_decode_with, decode, hidden) if hidden else decode

    def eos_ids(self, *configs: Any) -> frozenset[int]:
        """Every id that ends a turn: by `configs` (each with `eos_token_id`), the tokenizer, or a well-known name."""
        found: set[int] = set()
        for owner in (*configs, self._tokenizer):
            ids = getattr(owner, "eos_token_id", None)
            found.update([ids] if isinstance(ids, int) else ids or ())
        vocabulary = self._tokenizer.get_vocab()
        found.update(vocabulary[name] for name in END_OF_TURN if name in vocabulary)
        return frozenset(found)

    def _shows_tools(self) -> bool:
        """Whether the template writes tools and calls in the form that is read here."""
        if not getattr(self._tokenizer, "chat_template", None):
            return False
        probe = Tool(name="probe_of_the_template")
        messages = (Message("user", "a"), Message("assistant", "", (ToolCall("call_1", probe.name, "{}"),)))
        try:
            text = self._template([*messages, Message("tool", "result", call_id="call_1")], [probe])
        except Exception:  # whatever a template that was not made for tools does with them
            return False
        return OPEN in text and text.count(probe.name) >= 2 and "result" in text

    def _render(self, messages: Sequence[Message], tools: Sequence[Tool]) -> str:
        try:
            return self._template(messages, tools)
        except Exception as error:
            folded = _fold_system(messages)
            if folded is None:
                raise _refusal(error) from error
        try:
            return self._template(folded, tools)
        except Exception as error:
            raise _refusal(error) from error

    def _template(self, messages: Sequence[Message], tools: Sequence[Tool]) -> str:
        options: Json = {"tools": self._broken([tool_json(tool) for tool in tools])} if tools else {}
        turns = self._broken([_turn(message) for message in messages])
        return self._tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False, **options)


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
        if message.calls and message.role != "assistant":
            raise UsageError(f"message {position} has role {message.role!r} and calls; only the assistant calls")
    check_last_message(messages[-1])


def _control_tokens(tokenizer: Any) -> re.Pattern[str]:
    """Finds the first character of each control token's name in a text; the tags of a call are none."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    names = {token.content for token in added if token.special} | {*tokenizer.all_special_tokens, *END_OF_TURN}
    longer = sorted(re.escape(name) for name in names - {OPEN, CLOSE} if len(name) > 1)
    begun = "".join(sorted({re.escape(name[0]) for name in names}))
    # Only looked at, not consumed, as names may overlap; first for what begins one, as there may be a thousand.
    return re.compile(f"(?=[{begun}])(?={'|'.join(longer)}).", re.DOTALL)


def _turn(message: Message) -> Json:
    """A message as chat templates expect it."""
    turn: Json = {"role": message.role, "content": message.content}
    if message.calls:
        turn["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments_of(call)}}
            for call in message.calls
        ]
    if message.call_id:
        turn["tool_call_id"] = message.call_id
    return turn


def _decode_with(decode: Decode, hidden: Mapping[int, str], ids: list[int]) -> str:
    """`decode`, with the tokens of `hidden` as the text given there."""
    parts: list[str] = []
    for token, run in groupby(ids, key=hidden.get):
        run = list(run)
        parts.append(decode(run) if token is None else token * len(run))
    return "".join(parts)


def _refusal(error: Exception) -> UsageError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UsageError(f"The model's chat template refuses these messages: {reason}")


def _fold_system(messages: Sequence[Message]) -> list[Message] | None:
    """The system prompt put before the first user turn, for templates that know no system role; None without one."""
    system = [message.content for message in messages if message.role == "system"]
    rest = [message for message in messages if message.role != "system"]
    if not system or not rest:
        return None
    return [replace(rest[0], content="\n\n".join([*system, rest[0].content])), *rest[1:]]

"""What a program came to, as it stands in an assistant turn: written after the program, and read back from there.

The form is the one that small coder models write by themselves when they imagine a program's output: a block fenced as
"output" below the program.
"""

from __future__ import annotations

import re

OUTPUT_FENCE = "```output"
MAX_SHOWN = 1000
"""Characters of an output that are shown: what is longer is a listing, and would crowd out the reasoning."""

_CUT = "\n…\n"
_BLOCK = re.compile(r"^[ \t]*```output[^\n]*\n(?P<shown>.*?)^[ \t]*```[ \t]*$\n?", re.MULTILINE | re.DOTALL)
_FENCE_LINE = re.compile(r"^[ \t>]*```", re.MULTILINE)


def shown(output: str | None, error: str | None) -> str:
    """What a model is shown of a program's `output` and of the `error` it ended with, which takes one line.

    Of a long output beginning and end are shown. It never closes the block that it is put in.
    """
    text = (output or "").strip("\n").rstrip()
    if len(text) > MAX_SHOWN:
        half = (MAX_SHOWN - len(_CUT)) // 2
        text = text[:half] + _CUT + text[-half:]
    lines = [text] if text else []
    if error is not None:
        lines.append(f"Error: {' '.join(error.split())}")
    return "\n".join(lines).replace("```", "'''")


def observation(turn: str, seen: str) -> str:
    """What is added to a `turn` so that it goes on after having `seen` what its program came to.

    A program whose block is still open is closed first.
    """
    start = "" if not turn or turn.endswith("\n") else "\n"
    if len(_FENCE_LINE.findall(turn)) % 2:
        start += "```\n"
    return f"{start}{OUTPUT_FENCE}\n{seen}\n```\n"


def since_observation(turn: str) -> str:
    """What a turn says after its last output block, be that true or imagined; the whole of it when it has none."""
    blocks = list(_BLOCK.finditer(turn))
    return turn[blocks[-1].end() :] if blocks else turn


def said_after(turn: str, seen: str) -> str | None:
    """What a turn says after its last output block; None where that is absent or imagined: where it isn't `seen`.

    `seen` is what is `shown` of the program that the turn comes to.
    """
    blocks = list(_BLOCK.finditer(turn))
    if not blocks or blocks[-1]["shown"].strip() != seen.strip():
        return None
    return turn[blocks[-1].end() :]

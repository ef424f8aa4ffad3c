"""`python -m tests.adapters.mcp_program [flags]`: `kaelum mcp` itself, but for the model, which says what we want.

It also prints where it must not, as a careless library would.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from kaelum_flow import commands
from kaelum_flow.facade import Kaelum
from kaelum_graph.cli import main
from kaelum_graph.config import Settings
from kaelum_graph.models.base import GenerationRequest
from tests.graphs.scripted_model import ScriptedModel


def said(request: GenerationRequest, k: int) -> str:
    print("a careless print")
    return "First I subtract.\nThe answer is \\boxed{5}"


def open_scripted(settings: Settings, *, notify: Callable[[str], None] | None = None) -> Kaelum:
    if notify is not None:
        notify("model: scripted")
    return Kaelum(settings, model=ScriptedModel(said, seconds=float(os.environ.get("SECONDS", "0"))), notify=notify)


if __name__ == "__main__":
    commands.open_kaelum = open_scripted
    sys.exit(main(["mcp", *sys.argv[1:]]))

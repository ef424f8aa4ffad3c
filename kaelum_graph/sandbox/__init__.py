"""Where programs that a model wrote are run: in isolation, or not at all."""

from kaelum_graph.sandbox.base import Limits, ProgramResult, Sandbox
from kaelum_graph.sandbox.hurried import HurriedSandbox
from kaelum_graph.sandbox.isolation import LAYERS, REQUIRED, Isolation
from kaelum_graph.sandbox.process import ProcessSandbox, probe

__all__ = [
    "LAYERS", "REQUIRED", "HurriedSandbox", "Isolation", "Limits", "ProcessSandbox", "ProgramResult", "Sandbox",
    "probe",
]  # fmt: skip

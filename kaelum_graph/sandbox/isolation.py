"""The layers that stand between a program and this machine, and which of them there are."""

from __future__ import annotations

from dataclasses import dataclass

LAYERS = {
    "rlimits": "ceilings on memory, CPU time, file size, threads and open files",
    "no-new-privs": "nothing it does can gain privileges",
    "seccomp": "a list of system calls; no processes, sockets, kernel interfaces",
    "landlock": "reads Python's own files alone, writes in its own folder alone",
    "uid": "a uid that nobody else has (only where the caller is root)",
    "namespaces": "its own root, network, process table and size-limited file system",
}
"""Every layer by name."""

REQUIRED = frozenset({"rlimits", "no-new-privs", "seccomp", "landlock"})
"""The fewest that make a sandbox: they need neither root nor namespaces, so stock distributions have them."""

FLOOR = frozenset({"rlimits", "no-new-privs", "seccomp"})
"""What no caller can do without; the file system needs `landlock` or `namespaces` besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """What one machine offers: the `layers` in force, and for each other one why it is `missing`."""

    layers: tuple[str, ...]
    missing: dict[str, str]

    def lacks(self, required: frozenset[str]) -> str | None:
        """One line that names the required layers that are not there, or None when all are."""
        absent = sorted(required - set(self.layers))
        if not absent:
            return None
        reasons = "; ".join(f"{name} ({self.missing.get(name, 'unknown')})" for name in absent)
        return f"Programs cannot be run in isolation on this machine. Missing: {reasons}."

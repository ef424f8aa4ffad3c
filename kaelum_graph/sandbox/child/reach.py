"""What a program may read: the Python installation and the shared libraries it needs."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from dataclasses import dataclass

DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")

_SYSTEM = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/share/zoneinfo",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/localtime",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """`import_paths` is `sys.path` for a program; `readable` those and the libraries, as given and resolved."""

    import_paths: tuple[str, ...]
    readable: tuple[str, ...]


def find() -> Reach:
    """What this interpreter needs, without the folders that its `.pth` files add, such as a project's own tree."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    installed = {sysconfig.get_path(name) for name in names} | set(site.getsitepackages())
    installed.add(os.path.dirname(os.__file__))
    import_paths = tuple(
        path for path in sys.path if path in installed or os.path.dirname(path) in installed or path.endswith(".zip")
    )
    wanted = [*import_paths, *_SYSTEM, os.path.join(sys.base_prefix, "lib")]
    readable: dict[str, None] = {}
    for path in wanted:
        if os.path.exists(path):
            readable[os.path.abspath(path)] = None
            readable[os.path.realpath(path)] = None
    return Reach(import_paths=import_paths, readable=tuple(readable))

"""Landlock: which files a program may open, and that it may neither connect nor signal out of its domain."""

from __future__ import annotations

import ctypes
import os
import stat
import struct

from . import libc

# The numbers are the same on every architecture.
_CREATE_RULESET = 444
_ADD_RULE = 445
_RESTRICT_SELF = 446

_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1

_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
_REMOVE_DIR = 1 << 4
_REMOVE_FILE = 1 << 5
_MAKE_DIR = 1 << 7
_MAKE_REG = 1 << 8
_REFER = 1 << 13
_TRUNCATE = 1 << 14

_READ = _READ_FILE | _READ_DIR
# No symbolic links, sockets, pipes or device files, and nothing executable.
_WRITE = _READ | _WRITE_FILE | _MAKE_REG | _TRUNCATE
# What could also hide files from whoever adds up their sizes: folders below, and names taken away.
_ARRANGE = _MAKE_DIR | _REMOVE_DIR | _REMOVE_FILE | _REFER
# A rule on a file may name only rights that make sense for files.
_FILE_RIGHTS = _WRITE_FILE | _READ_FILE | _TRUNCATE

_NET_BIND_AND_CONNECT_TCP = 0b11
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11
_LOG_OFF = 1

# Filesystem rights known to each ABI version from 1 on: 13 at first, then REFER, TRUNCATE and, in 5, IOCTL_DEV.
_FS_RIGHT_COUNTS = (13, 14, 15, 15, 16)


def abi_version() -> int:
    """The kernel's Landlock ABI, from 1 on; raises `OSError` where Landlock is not there or switched off."""
    return libc.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG, what="landlock")


def restrict(*, readable: tuple[str, ...], devices: tuple[str, ...], work: str, own_disk: bool) -> int:
    """Confine the calling thread: read `readable`, read and write `devices` and below `work`, and nothing else.

    `own_disk` says that `work` is a file system with a size of its own. Where it is not, files can only be made and
    written there, not removed, renamed or put into folders, so that all of them can be counted.
    Every TCP port, abstract socket and process outside is out of reach where the kernel's ABI covers it.
    Returns the ABI used. A path that does not exist is left out. Raises `OSError`.
    """
    abi = abi_version()
    handled = (1 << _FS_RIGHT_COUNTS[min(abi, len(_FS_RIGHT_COUNTS)) - 1]) - 1
    attributes = struct.pack("=Q", handled)
    if abi >= 4:
        attributes += struct.pack("=Q", _NET_BIND_AND_CONNECT_TCP)
    if abi >= 6:
        attributes += struct.pack("=Q", _SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS)
    ruleset = libc.syscall(_CREATE_RULESET, _buffer(attributes), len(attributes), 0, what="landlock ruleset")
    try:
        for path in readable:
            _allow(ruleset, path, _READ & handled)
        for path in devices:
            _allow(ruleset, path, (_READ_FILE | _WRITE_FILE) & handled)
        _allow(ruleset, work, (_WRITE | _ARRANGE if own_disk else _WRITE) & handled)
        # Refused accesses would otherwise flood the kernel's audit log.
        libc.syscall(_RESTRICT_SELF, ruleset, _LOG_OFF if abi >= 7 else 0, what="landlock restrict")
    finally:
        os.close(ruleset)
    return abi


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(parent).st_mode):
            rights &= _FILE_RIGHTS
        rule = _buffer(struct.pack("=Qi", rights, parent))
        libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0, what=f"landlock rule {path}")
    finally:
        os.close(parent)


def _buffer(content: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(content, len(content))

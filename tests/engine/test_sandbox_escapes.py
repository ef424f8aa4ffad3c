"""Programs that try to get out. Each attempt must fail, and leave the world outside as it was.

The same attempts run as root and, in processes of their own, as an ordinary user, with and without namespaces.
"""

from __future__ import annotations

import os
import re
import secrets
import site
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

import kaelum_graph.sandbox
from kaelum_graph.errors import SandboxError
from kaelum_graph.sandbox import REQUIRED, Limits, ProcessSandbox, probe

# Read into every attempt: how to make a system call by number and to say plainly that it worked.
PRELUDE = """
import ctypes, os, signal, socket, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    arguments = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def escaped(*what):
    print("ESCAPED", *what, flush=True)
"""

KILLED = "killed for a system call"
# By number, so that a slip in an attempt's own program does not pass for a refusal: not permitted, no such file,
# access denied, read-only, no such call.
REFUSED = r"\[Errno (1|2|13|30|38)\]"
FULL = r"\[Errno (27|28)\]|on disk"


@dataclass(frozen=True)
class Attempt:
    """`program` fails with a reason that matches `failure`; None where it ends well without having got anywhere.

    In a program, {secret}, {folder}, {home}, {project}, {victim}, {tcp}, {udp}, {unix}, {abstract} and {packages}
    stand for what lies outside.
    """

    name: str
    program: str
    failure: str | None = REFUSED
    seconds: float = 5.0
    x86_only: bool = False


def kernel(name: str, number: int | str, arguments: str = "0, 0, 0, 0, 0", failure: str = KILLED) -> Attempt:
    """A bare system call by its x86_64 number."""
    return Attempt(f"call-{name}", f"escaped(call({number}, {arguments}))", failure, x86_only=True)


def read(name: str, path: str) -> Attempt:
    return Attempt(f"read-{name}", f"escaped(open({path!r}, 'rb').read(4096))")


def write(name: str, path: str) -> Attempt:
    return Attempt(f"write-{name}", f"open({path!r}, 'w').write('x'); escaped()")


ATTEMPTS = [
    # Reading what is not the program's.
    read("shadow", "/etc/shadow"),
    read("passwd", "/etc/passwd"),
    read("secret", "{secret}"),
    read("project", "{project}"),
    read("init-environment", "/proc/1/environ"),
    read("own-environment", "/proc/self/environ"),
    read("parent-environment", "/proc/{parent}/environ"),
    read("victim-environment", "/proc/{victim}/environ"),
    read("victim-command-line", "/proc/{victim}/cmdline"),
    read("own-maps", "/proc/self/maps"),
    read("kernel-settings", "/proc/sys/kernel/hostname"),
    read("disk", "/dev/vda"),
    Attempt("list-home", "escaped(os.listdir({home!r}))"),
    Attempt("list-root", "escaped(os.listdir('/'))"),
    Attempt("list-own-descriptors", "escaped(os.listdir('/proc/self/fd'))"),
    Attempt("list-folder", "escaped(os.listdir({folder!r}))"),
    Attempt(
        "climb-out",
        "os.chdir('/'); os.chdir(os.path.dirname({secret!r})); escaped(open('secret.txt').read())",
    ),
    Attempt(
        "path-descriptor",
        "d = os.open('/', os.O_PATH); escaped(open(os.open({secret!r}[1:], os.O_RDONLY, dir_fd=d)).read())",
    ),
    Attempt("symlink-out", "os.symlink({secret!r}, 'link'); escaped(open('link').read())"),
    Attempt("hardlink-out", "os.link({secret!r}, 'link'); escaped(open('link').read())"),
    Attempt(
        "inherited-descriptors",
        """
        for descriptor in range(3, 1024):
            try:
                escaped(descriptor, os.pread(descriptor, 100, 0))
            except OSError:
                pass
        """,
        failure=None,
    ),
    Attempt(
        "sockets-in-memory",
        """
        import gc
        for thing in gc.get_objects():
            if isinstance(thing, socket.socket):
                try:
                    thing.send(b'{{"cause": null, "status": 0, "seconds": 0, "layers": []}}\\n')
                    escaped(thing)
                except OSError:
                    pass
        """,
        failure=None,
    ),
    # Writing what is not the program's.
    write("secret", "{secret}"),
    write("beside-secret", "{folder}/new"),
    write("home", "{home}/kaelum-escape"),
    write("packages", "{packages}/kaelum_escape.py"),
    write("standard-library", "{library}/kaelum_escape.py"),
    write("shared-memory", "/dev/shm/kaelum-escape"),
    write("root", "/kaelum-escape"),
    write("var-tmp", "/var/tmp/kaelum-escape"),
    write("process-memory", "/proc/self/mem"),
    write("core-pattern", "/proc/sys/kernel/core_pattern"),
    write("cgroup", "/sys/fs/cgroup/cgroup.procs"),
    Attempt("truncate", "os.truncate({secret!r}, 0); escaped()"),
    Attempt("truncate-by-open", "os.open({secret!r}, os.O_RDONLY | os.O_TRUNC); escaped()"),
    Attempt("append", "open({secret!r}, 'a').write('x'); escaped()"),
    Attempt("remove", "os.unlink({secret!r}); escaped()"),
    Attempt("rename", "os.rename({secret!r}, {secret!r} + '2'); escaped()"),
    Attempt("rename-in", "os.rename({secret!r}, 'mine'); escaped(open('mine').read())"),
    Attempt("chmod", "os.chmod({secret!r}, 0o777); escaped()"),
    Attempt("chmod-by-descriptor", "os.fchmod(os.open(os.__file__, os.O_RDONLY), 0o777); escaped()"),
    Attempt("chown", "os.chown({secret!r}, os.getuid(), os.getgid()); escaped()"),
    Attempt("touch", "os.utime({secret!r}, (1, 1)); escaped()"),
    Attempt("attributes", "os.setxattr({secret!r}, 'user.escape', b'1'); escaped()"),
    Attempt("make-folder", "os.mkdir({folder!r} + '/new'); escaped()"),
    Attempt("device-file", "os.mknod('disk', 0o60600, os.makedev(254, 0)); escaped(open('disk', 'rb').read(9))"),
    Attempt("unnamed-file", "os.open('.', os.O_TMPFILE | os.O_RDWR); escaped()"),
    # The network.
    Attempt("tcp", "socket.create_connection(('127.0.0.1', {tcp})).send(b'x'); escaped()"),
    Attempt("tcp-listen", "socket.create_server(('127.0.0.1', 0)); escaped()"),
    Attempt("udp", "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {udp})); escaped()"),
    Attempt("name-lookup", "escaped(socket.getaddrinfo('localhost.example', 80))", r"\[Errno -\d+\]"),
    Attempt("unix", "socket.socket(socket.AF_UNIX).connect({unix!r}); escaped()"),
    Attempt("unix-abstract", "socket.socket(socket.AF_UNIX).connect({abstract!r}); escaped()"),
    Attempt("unix-datagrams", "socket.socketpair(type=socket.SOCK_DGRAM)[0].sendto(b'x', {unix!r}); escaped()"),
    Attempt("netlink", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); escaped()"),
    Attempt("raw", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1); escaped()"),
    Attempt("packet", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW); escaped()"),
    Attempt("vsock", "socket.socket(40, socket.SOCK_STREAM); escaped()"),
    Attempt("multipath-tcp", "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262); escaped()"),
    Attempt(
        "fast-open",
        """
        end, _ = socket.socketpair()
        address = b'\\x02\\x00' + ({tcp}).to_bytes(2, 'big') + bytes([127, 0, 0, 1]) + bytes(8)
        escaped(call(44, end.fileno(), b'x', 1, 0x20000000, address, 16))
        """,
        failure=r"\[Errno (22|95|106)\]",
        x86_only=True,
    ),
    Attempt(
        "socket-by-int-80",
        """
        import mmap
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        # push rbx; mov eax, 359; mov ebx, 2; mov ecx, 1; xor edx, edx; int 0x80; pop rbx; ret
        page.write(bytes.fromhex('53 b867010000 bb02000000 b901000000 31d2 cd80 5b c3'))
        start = ctypes.addressof(ctypes.c_char.from_buffer(page))
        escaped(ctypes.CFUNCTYPE(ctypes.c_int)(start)())
        """,
        failure=f"{KILLED}|killed by SIGSEGV",
        x86_only=True,
    ),
    kernel("socket-by-x32", "0x40000000 + 41", "2, 1, 0"),
    # Other processes.
    Attempt("fork", "os.fork(); escaped()"),
    Attempt("vfork", "escaped(call(58))", x86_only=True),
    Attempt("clone-process", "escaped(call(56, 17, 0, 0, 0, 0))", x86_only=True),
    Attempt("clone-own-descriptors", "escaped(call(56, 0x10000 | 0x800 | 0x100, 0, 0, 0, 0))", x86_only=True),
    Attempt("clone3", "escaped(call(435, (ctypes.c_uint64 * 8)(0, 0, 0, 0, 17), 64))"),
    Attempt(
        "fork-bomb",
        """
        while True:
            try:
                os.fork()
                escaped()
            except OSError as error:
                last = error
            if time.process_time() > 0.05:
                raise last
        """,
    ),
    Attempt(
        "thread-bomb",
        """
        import threading
        threading.stack_size(32768)
        try:
            while threading.active_count() < 1000:
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            escaped()
        except RuntimeError:
            sys.exit('no more threads')
        """,
        failure="no more threads",
    ),
    Attempt(
        "daemon",
        """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(60)
        escaped()
        """,
    ),
    Attempt("shell", "escaped(os.execv('/bin/sh', ['sh', '-c', 'id']))"),
    Attempt("subprocess", "import subprocess; escaped(subprocess.run(['/bin/sh', '-c', 'id']))"),
    Attempt("spawn", "escaped(os.posix_spawn('/bin/sh', ['sh'], {{}}))"),
    Attempt("system", "sys.exit('refused') if os.system('id') else escaped()", failure="refused"),
    Attempt("new-interpreter", "escaped(os.execv(sys.executable, [sys.executable, '-c', '1']))"),
    Attempt("memfd-exec", "d = os.memfd_create('x'); os.write(d, b'#!/bin/sh'); escaped()", KILLED),
    kernel("execveat", 322, "3, b'', 0, 0, 0x1000"),
    Attempt("kill-victim", "os.kill({victim}, 9); escaped()"),
    Attempt("kill-parent", "os.kill({parent}, 9); escaped()"),
    Attempt(
        "kill-watcher",
        "parent = os.getppid(); os.kill(parent, 9) if parent else sys.exit('nobody there'); escaped()",
        f"{REFUSED}|nobody there",
    ),
    Attempt("kill-all", "os.kill(-1, 9); escaped()"),
    Attempt("kill-group", "os.killpg({victim}, 9); escaped()"),
    Attempt("kill-thread", "escaped(call(234, {victim}, {victim}, 9))", x86_only=True),
    Attempt("kill-queue", "escaped(call(129, {victim}, 9, ctypes.create_string_buffer(128)))", x86_only=True),
    Attempt("kill-by-descriptor", "signal.pidfd_send_signal(os.pidfd_open({victim}), 9); escaped()"),
    Attempt(
        "kill-by-input-signal",
        "import fcntl; a, b = socket.socketpair(); fcntl.fcntl(a, fcntl.F_SETOWN, {victim}); escaped()",
    ),
    Attempt("ptrace-parent", "escaped(libc.ptrace(16, {parent}, 0, 0))", KILLED),
    Attempt("ptrace-me", "escaped(libc.ptrace(0, 0, 0, 0))", KILLED),
    kernel("process-vm-readv", 310, "{victim}, (ctypes.c_char * 64)(), 1, (ctypes.c_char * 64)(), 1, 0"),
    kernel("process-vm-writev", 311, "{victim}, (ctypes.c_char * 64)(), 1, (ctypes.c_char * 64)(), 1, 0"),
    kernel("pidfd-getfd", 438, "3, 0, 0"),
    Attempt("priority", "os.setpriority(os.PRIO_PROCESS, 0, -20); escaped()"),
    Attempt("scheduler", "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(9)); escaped()"),
    Attempt("terminal-input", "import fcntl; fcntl.ioctl(0, 0x5412, b'x'); escaped()", r"\[Errno 25\]"),
    # Privileges and kernel interfaces.
    Attempt("setuid", "os.setuid(0); escaped()" if os.getuid() else "os.setresuid(0, 0, 0); escaped()"),
    Attempt("setgid", "os.setresgid(0, 0, 0); escaped()"),
    Attempt("groups", "os.setgroups([0]); escaped()"),
    kernel("capset", 126, "(ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(-1, -1)", REFUSED),
    kernel("unshare-user", 272, "0x10000000"),
    kernel("unshare-all", 272, "0x7E020000"),
    kernel("setns", 308, "0, 0"),
    Attempt("clone-namespace", "escaped(call(56, 0x10000011, 0, 0, 0, 0))", x86_only=True),
    Attempt("mount", "escaped(libc.mount(b'none', b'/tmp', b'tmpfs', 0, 0))", KILLED),
    kernel("umount", 166, "b'/tmp', 2"),
    kernel("pivot-root", 155, "b'.', b'.'"),
    Attempt("chroot", "os.chroot('.'); escaped()", KILLED),
    kernel("open-tree", 428, "-100, b'/', 1"),
    kernel("io-uring", 425, "8, ctypes.create_string_buffer(120)"),
    kernel("aio", 206, "8, ctypes.create_string_buffer(8)"),
    kernel("bpf", 321, "0, ctypes.create_string_buffer(128), 128"),
    kernel("perf", 298, "ctypes.create_string_buffer(128), 0, -1, -1, 0"),
    kernel("userfaultfd", 323, "1"),
    kernel("keyctl", 250, "0, -3, 1"),
    kernel("add-key", 248, "b'user', b'escape', b'x', 1, -3"),
    kernel("kexec", 246),
    kernel("module", 175, "b'x', 1, b''"),
    kernel("open-by-handle", 304, "-100, ctypes.create_string_buffer(64), 0"),
    kernel("personality", 135, "0x0040000"),
    kernel("reboot", 169, "0, 0, 0"),
    kernel("kernel-log", 103, "3, ctypes.create_string_buffer(64), 64"),
    Attempt("dumpable-again", "escaped() if libc.prctl(4, 1, 0, 0, 0) == 0 else sys.exit('refused')", "refused"),
    Attempt("outlive-parent", "escaped() if libc.prctl(1, 0, 0, 0, 0) == 0 else sys.exit('refused')", "refused"),
    Attempt("own-filter", "escaped() if libc.prctl(22, 1, 0, 0, 0) == 0 else sys.exit('refused')", "refused"),
    # Using things up.
    Attempt("memory-bomb", "kept = []\nwhile True: kept.append(bytearray(2**24))", "more memory than 96 MiB"),
    Attempt(
        "memory-by-mapping", "import mmap; kept = [mmap.mmap(-1, 2**24) for _ in range(64)]; escaped()", "Errno 12"
    ),
    Attempt(
        "memory-shared",
        "from multiprocessing import shared_memory as m; m.SharedMemory(create=True, size=2**28); escaped()",
    ),
    Attempt("memory-system-v", "escaped(call(29, 0, 2**28, 0o1600))", x86_only=True),
    Attempt("memory-locked", "sys.exit('refused') if libc.mlockall(1) else escaped()", "refused"),
    Attempt(
        "limits-raised",
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1)); escaped()",
        "not allowed to raise maximum limit",
    ),
    Attempt(
        "one-big-file",
        """
        with open('big', 'wb') as file:
            for _ in range(256):
                file.write(bytes(2**20))
        escaped()
        """,
        failure=FULL,
    ),
    Attempt(
        "many-big-files",
        """
        for n in range(400):
            with open(str(n), 'wb') as file:
                file.write(bytes(2**20))
        escaped()
        """,
        failure=FULL,
    ),
    Attempt(
        "many-empty-files",
        """
        for n in range(1_000_000):
            open(str(n), 'w').close()
        escaped()
        """,
        failure=FULL,
    ),
    Attempt(
        "deep-folders",
        """
        for n in range(100_000):
            os.mkdir('d')
            os.chdir('d')
        escaped()
        """,
        failure=f"{REFUSED}|{FULL}",
    ),
    Attempt("many-descriptors", "kept = [os.pipe() for _ in range(500)]; escaped()", r"\[Errno 24\]"),
    Attempt("endless-output", "while True: os.write(1, b'x' * 65536)", "more output than 64 KiB"),
    Attempt("endless-errors", "while True: print('x' * 100, file=sys.stderr)", "more output than 64 KiB"),
    Attempt("core-dump", "os.abort()", "killed by SIG(ABRT|SEGV)|no result", seconds=0.5),
    Attempt(
        "deaf-to-signals",
        """
        for number in set(signal.Signals) - {{signal.SIGKILL, signal.SIGSTOP}}:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
        while True: time.sleep(1)
        """,
        failure="no result within 0.4 s",
        seconds=0.4,
    ),
    # Lying about the result.
    Attempt(
        "forged-report",
        """
        report = b'{{"cause": null, "status": 0, "seconds": 0.0, "layers": ["landlock"]}}\\n'
        for descriptor in range(64):
            try:
                os.write(descriptor, report)
            except OSError:
                pass
        os._exit(5)
        """,
        failure="^exit code 5",
    ),
    Attempt("forged-readiness", "os.write(1, b'ready'); os._exit(6)", "^exit code 6"),
]

attempted: set[str] = set()


def _refusal() -> str | None:
    try:
        return probe().lacks(REQUIRED)
    except SandboxError as error:
        return str(error)


REFUSAL = _refusal()
pytestmark = pytest.mark.skipif(REFUSAL is not None, reason=str(REFUSAL))


class World:
    """What lies outside: a secret in a file and in a process's environment, listeners, and folders to leave alone."""

    def __init__(self, folder: Path) -> None:
        self.open = ExitStack()
        self.token = secrets.token_hex(16)
        self.folder = folder
        self.secret = folder / "secret.txt"
        self.secret.write_text(self.token)
        # As open as can be: what keeps a program out must be the sandbox.
        self.secret.chmod(0o666)
        self.folder.chmod(0o777)
        self.inheritable = os.open(self.secret, os.O_RDWR)
        os.set_inheritable(self.inheritable, True)
        self.open.callback(os.close, self.inheritable)
        self.victim = subprocess.Popen(["sleep", "600"], env={"TOKEN": self.token}, start_new_session=True)
        self.open.callback(self.victim.wait)
        self.open.callback(self.victim.kill)
        self.listeners = [self._listen(socket.AF_INET, ("127.0.0.1", 0), socket.SOCK_STREAM)]
        self.listeners.append(self._listen(socket.AF_INET, ("127.0.0.1", 0), socket.SOCK_DGRAM))
        # A socket's path must be short.
        short = Path(self.open.enter_context(tempfile.TemporaryDirectory(prefix="k")))
        self.listeners.append(self._listen(socket.AF_UNIX, str(short / "s"), socket.SOCK_STREAM))
        self.listeners.append(self._listen(socket.AF_UNIX, f"\0kaelum-{secrets.token_hex(8)}", socket.SOCK_STREAM))
        self.state = self._look()

    def _listen(self, family: int, address: object, kind: int) -> socket.socket:
        listener = self.open.enter_context(socket.socket(family, kind))
        listener.bind(address)  # type: ignore[arg-type]
        if kind == socket.SOCK_STREAM:
            listener.listen()
        listener.setblocking(False)
        return listener

    def fill(self, program: str) -> str:
        tcp, udp, unix, abstract = (listener.getsockname() for listener in self.listeners)
        values: dict[str, object] = {
            "secret": str(self.secret),
            "folder": str(self.folder),
            "home": os.path.expanduser("~"),
            "project": str(Path(__file__).resolve()),
            "victim": self.victim.pid,
            "parent": os.getpid(),
            "tcp": tcp[1],
            "udp": udp[1],
            "unix": unix,
            "abstract": abstract,
            "packages": site.getsitepackages()[0],
            "library": os.path.dirname(os.__file__),
        }
        return PRELUDE + textwrap.dedent(program).strip().format_map(values)

    def _look(self) -> object:
        status = self.secret.stat()
        places = (Path.home(), Path("/"), Path("/dev/shm"), Path("/var/tmp"), Path(site.getsitepackages()[0]))
        strays = [str(place / "kaelum-escape") for place in places if (place / "kaelum-escape").exists()]
        strays += [str(place / "kaelum_escape.py") for place in places if (place / "kaelum_escape.py").exists()]
        return (
            self.secret.read_text(),
            (status.st_mode, status.st_uid, status.st_mtime_ns, status.st_nlink, status.st_size),
            sorted(path.name for path in self.folder.iterdir()),
            strays,
            os.listxattr(self.secret),
            self.victim.poll(),
            sorted(path.name for path in Path.cwd().glob("core*")),
            [self._heard(listener) for listener in self.listeners],
        )

    def _heard(self, listener: socket.socket) -> bool:
        try:
            if listener.type == socket.SOCK_STREAM:
                listener.accept()[0].close()
            else:
                listener.recv(100)
        except BlockingIOError:
            return False
        return True

    def assert_untouched(self) -> None:
        assert self._look() == self.state


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    built = World(tmp_path_factory.mktemp("world"))
    with built.open:
        yield built


@pytest.fixture(scope="module")
def sandbox(world: World) -> Iterator[ProcessSandbox]:
    # Depends on the world, so that its inheritable descriptor is open when the fork server starts.
    box = ProcessSandbox()
    yield box
    box.close()


def _watchers_of(sandbox: ProcessSandbox) -> str:
    """Processes that the fork server has started and that are still there; a program's own ends before its watcher."""
    server = sandbox._server
    assert server is not None, "an attempt ended the fork server"
    process = server._process.pid
    return Path(f"/proc/{process}/task/{process}/children").read_text()


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.name)
def test_attempt_is_blocked(attempt: Attempt, sandbox: ProcessSandbox, world: World) -> None:
    if attempt.x86_only and os.uname().machine != "x86_64":
        pytest.skip(f"made of x86_64 system call numbers, this is {os.uname().machine}")
    limits = Limits(seconds=attempt.seconds, memory_bytes=96 * 1024 * 1024)
    server = sandbox._server
    result = sandbox.run(world.fill(attempt.program), limits=limits)
    attempted.add(attempt.name)
    assert "ESCAPED" not in result.stdout
    assert world.token not in result.stdout + result.stderr
    assert result.isolation == sandbox.isolation.layers
    assert result.ok is (attempt.failure is None)
    assert re.search(attempt.failure or "^$", result.failure or ""), result.failure
    world.assert_untouched()
    assert server is None or sandbox._server is server, "the fork server had to be replaced"
    deadline = time.monotonic() + 3
    while _watchers_of(sandbox) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not _watchers_of(sandbox)


def test_the_sandbox_still_serves(sandbox: ProcessSandbox) -> None:
    assert sandbox.run("print(1)").stdout == "1\n"


def test_enough_attempts_ran(request: pytest.FixtureRequest) -> None:
    collected = [item for item in request.session.items if item.name.startswith("test_attempt_is_blocked[")]
    if len(collected) < len(ATTEMPTS):
        pytest.skip("only some of the attempts were selected")
    assert len(attempted) >= 25
    assert len({attempt.name for attempt in ATTEMPTS}) == len(ATTEMPTS)


# Attempts that anybody may make outside, and that do no harm there: they show that it is the sandbox that stops them.
HARMLESS = """
read-secret read-project read-own-environment read-victim-environment list-home list-folder symlink-out climb-out
path-descriptor append chmod touch tcp tcp-listen udp unix unix-abstract fork subprocess memfd-exec kill-victim
many-descriptors one-big-file memory-by-mapping
""".split()


@pytest.mark.parametrize("attempt", [attempt for attempt in ATTEMPTS if attempt.name in HARMLESS], ids=lambda a: a.name)
def test_attempt_succeeds_outside(attempt: Attempt, tmp_path: Path) -> None:
    folder = tmp_path / "world"
    folder.mkdir()
    world = World(folder)
    with world.open:
        done = subprocess.run(
            [sys.executable, "-c", world.fill(attempt.program)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert "ESCAPED" in done.stdout, done.stderr


# Starts the command after it as another user, without namespaces, or both; runs in an interpreter of its own.
RESTRICTED = """
import ctypes, os, struct, sys
sys.path.insert(0, {child!r})
from child import libc

user, absent, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]

def let_others_in(path):
    # Python itself may lie in a folder that is closed to others, such as root's home.
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount("none", "/", None, libc.MS_REC | libc.MS_PRIVATE)
    for parent in [os.path.dirname(path[: n + 1]) for n, c in enumerate(path) if c == "/"][1:] + [path]:
        if not os.stat(parent).st_mode & 1:
            descriptor = os.open(path, os.O_PATH)
            libc.mount("tmpfs", parent, "tmpfs", 0, "mode=755")
            os.makedirs(path)
            libc.mount("/proc/self/fd/%d" % descriptor, path, None, libc.MS_BIND | libc.MS_REC)
            return

def refuse(*numbers):
    rules = [(0x20, 0, 0, 0)]
    for number in numbers:
        rules += [(0x15, 0, 1, number), (0x06, 0, 0, 0x50001)]
    rules.append((0x06, 0, 0, 0x7FFF0000))
    code = b"".join(struct.pack("=HBBI", *rule) for rule in rules)
    kept = ctypes.create_string_buffer(code, len(code))
    libc.prctl(libc.PR_SET_NO_NEW_PRIVS, 1)
    header = struct.pack("@HP", len(rules), ctypes.addressof(kept))
    libc.prctl(libc.PR_SET_SECCOMP, 2, ctypes.create_string_buffer(header))

if user != os.getuid():
    let_others_in(os.path.realpath(sys.base_prefix))
if absent == "no namespaces":
    refuse({{"x86_64": 272, "aarch64": 97}}[os.uname().machine])
if absent == "no landlock":
    refuse(444)
if user != os.getuid():
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
os.execv(command[0], command)
"""

NOBODY = 65534
ELSEWHERE = {
    "ordinary user": (NOBODY, "all"),
    "ordinary user, no namespaces": (NOBODY, "no namespaces"),
    "same user, no namespaces": (os.getuid(), "no namespaces"),
}


def _restricted(user: int, absent: str, *command: str) -> list[str]:
    script = RESTRICTED.format(child=str(Path(kaelum_graph.sandbox.__file__).parent))
    return [sys.executable, "-c", script, str(user), absent, sys.executable, "-B", *command]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[dict[str, subprocess.Popen[str]]]:
    """All attempts once more in processes restricted in each of those ways, side by side."""
    with ExitStack() as stack:
        started: dict[str, subprocess.Popen[str]] = {}
        for name, (user, absent) in ELSEWHERE.items():
            if user != os.getuid() != 0:
                continue
            # Beside pytest's own folders, which are closed to other users.
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kaelum-test-"))
            os.chown(folder, user, -1)
            suite = ["-m", "pytest", "--noconftest", "-q", "-p", "no:cacheprovider", f"--basetemp={folder}/base"]
            selected = [__file__, "-k", "is_blocked or enough or layers or serves"]
            environment = {"HOME": folder, "PATH": "/usr/bin:/bin", "SANDBOX_TEST_ABSENT": absent}
            started[name] = stack.enter_context(
                subprocess.Popen(
                    _restricted(user, absent, *suite, *selected),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    env=environment,
                )
            )
        yield started


@pytest.mark.parametrize("place", ELSEWHERE)
def test_attempts_are_blocked_elsewhere(place: str, elsewhere: dict[str, subprocess.Popen[str]]) -> None:
    if place not in elsewhere:
        pytest.skip("needs root to become another user")
    printed, _ = elsewhere[place].communicate(timeout=200)
    assert elsewhere[place].returncode == 0, printed[-6000:]
    assert int(re.findall(r"(\d+) passed", printed)[-1]) >= 25


def test_layers_are_the_ones_meant(sandbox: ProcessSandbox) -> None:
    layers = set(sandbox.isolation.layers)
    assert layers >= REQUIRED
    assert ("uid" in layers) is (os.getuid() == 0)
    if os.environ.get("SANDBOX_TEST_ABSENT") == "no namespaces":
        assert "namespaces" not in layers


def test_a_kernel_without_landlock_runs_nothing() -> None:
    program = """
from kaelum_graph.errors import SandboxError
from kaelum_graph.sandbox import ProcessSandbox
try:
    print(ProcessSandbox().run("print('ran')"))
except SandboxError as error:
    print(error)
"""
    root = str(Path(kaelum_graph.sandbox.__file__).parents[2])
    done = subprocess.run(
        _restricted(os.getuid(), "no landlock", "-c", program),
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": root, "PATH": "/usr/bin:/bin"},
    )
    assert re.fullmatch(r"Programs cannot be run in isolation .* Missing: landlock \(.*\)\.\n", done.stdout), done

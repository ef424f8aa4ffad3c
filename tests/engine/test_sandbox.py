"""What programs may do, what they are told when they fail, and that no program runs where it cannot be isolated."""

from __future__ import annotations

import errno
import os
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from kaelum_graph.errors import SandboxError, UsageError
from kaelum_graph.sandbox import LAYERS, REQUIRED, Isolation, Limits, ProcessSandbox, ProgramResult, probe
from kaelum_graph.sandbox.child import namespaces, seccomp, syscalls

QUICK = Limits(seconds=0.4)


def _refusal() -> str | None:
    try:
        return probe().lacks(REQUIRED)
    except SandboxError as error:
        return str(error)


REFUSAL = _refusal()
isolated = pytest.mark.skipif(REFUSAL is not None, reason=str(REFUSAL))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[ProcessSandbox]:
    box = ProcessSandbox(parallel=4)
    yield box
    box.close()


def run(sandbox: ProcessSandbox, program: str, *, stdin: str = "", limits: Limits | None = None) -> ProgramResult:
    return sandbox.run(textwrap.dedent(program), stdin=stdin, limits=limits)


@isolated
class TestPrograms:
    @pytest.mark.parametrize(
        ("program", "printed"),
        [
            ("print(sum(range(10)))", "45\n"),
            ("print('größer als π: 日本 🦊')", "größer als π: 日本 🦊\n"),
            ("", ""),
            ("print('no newline', end='')", "no newline"),
            ("import sys; sys.stdout.write('a'); sys.stdout.buffer.write(b'b'); sys.stdout.flush()", "ba"),
            ("if __name__ == '__main__': print(__file__, __import__('sys').argv)", "program.py ['program.py']\n"),
            ("import atexit; atexit.register(print, 'last'); print('first')", "first\nlast\n"),
            ("import threading; threading.Thread(target=print, args=('joined',)).start()", "joined\n"),
            ("import os; os.write(1, bytes([0x61, 0xff, 0x62]))", "a�b"),
            ("import os; print(sorted(os.environ))", None),
            ("open('a.txt', 'w').write('kept'); print(open('a.txt').read())", "kept\n"),
            ("import tempfile; f = tempfile.TemporaryFile('w+'); f.write('x'); print(f.tell())", None),
            ("open('/dev/null', 'w').write('x'); print(len(open('/dev/urandom', 'rb').read(4)))", "4\n"),
            ("import sqlite3; print(sqlite3.connect(':memory:').execute('select 6 * 7').fetchone())", "(42,)\n"),
            ("import pickle\nclass A: x = 1\nprint(pickle.loads(pickle.dumps(A())).x)", "1\n"),
            ("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\nprint(A(1))", "A(x=1)\n"),
            ("import inspect\ndef f(): return 1\nprint(inspect.getsource(f))", "def f(): return 1\n\n"),
            (
                "import sys; sys.setrecursionlimit(10**6)\ndef f(n): return n and 1 + f(n - 1)\nprint(f(20000))",
                "20000\n",
            ),
            ("print([*{'b', 'a', 'c'}] == [*{'b', 'a', 'c'}])", "True\n"),
            ("import datetime, zoneinfo; print(datetime.date(2024, 2, 29) + datetime.timedelta(1))", "2024-03-01\n"),
        ],
    )
    def test_prints(self, sandbox: ProcessSandbox, program: str, printed: str | None) -> None:
        result = sandbox.run(program)
        if printed is None:
            # Temporary files need removal, which only a file system of its own allows.
            assert result.ok or "namespaces" not in result.isolation
            return
        assert result == ProgramResult(
            ok=True,
            stdout=printed,
            stderr="",
            exit_code=0,
            seconds=result.seconds,
            isolation=sandbox.isolation.layers,
        )

    def test_asyncio_runs(self, sandbox: ProcessSandbox) -> None:
        program = """
            import asyncio
            async def main():
                await asyncio.sleep(0.001)
                print(await asyncio.to_thread(lambda: 7))
            asyncio.run(main())
        """
        assert run(sandbox, program).stdout == "7\n"

    @pytest.mark.parametrize(
        "program",
        [
            "import sympy; x = sympy.symbols('x'); print(sympy.integrate(x**2, x))",
            "import numpy as np; print(np.linalg.det(np.eye(3)))",
        ],
    )
    def test_installed_packages_import(self, sandbox: ProcessSandbox, program: str) -> None:
        results = [sandbox.run(program) for _ in range(3)]
        assert [result.failure for result in results] == [None] * 3
        assert len({result.stdout for result in results}) == 1

    def test_stdin_arrives_whole(self, sandbox: ProcessSandbox) -> None:
        text = "zeile ä\n" * 100_000
        result = run(sandbox, "import sys; t = sys.stdin.read(); print(len(t), input is not None)", stdin=text)
        assert result.stdout == f"{len(text)} True\n"

    def test_unread_stdin_does_no_harm(self, sandbox: ProcessSandbox) -> None:
        assert run(sandbox, "print(input())", stdin="first\n" + "x" * 1_000_000).stdout == "first\n"

    def test_nothing_of_the_caller_is_inherited(self, sandbox: ProcessSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SANDBOX_TEST_TOKEN", "outer")
        program = """
            import os, signal, sys
            print(sorted(os.environ))
            print(os.listdir('.'))
            print([n for n in sys.modules if 'kaelum' in n or n.partition('.')[0] == 'child'])
            print([p for p in sys.path if 'kaelum_graph' in p])
            print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
        """
        names = "['HOME', 'LANG', 'OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'TMPDIR']"
        assert run(sandbox, program).stdout == f"{names}\n[]\n[]\n[]\nTrue\n"

    def test_programs_do_not_see_each_other(self, sandbox: ProcessSandbox) -> None:
        run(sandbox, "import builtins, random; builtins.print = None; random.seed(1); open('left', 'w').close()")
        assert run(sandbox, "import os; print(os.listdir('.'))").stdout == "[]\n"
        draws = {run(sandbox, "import random; print(random.random())").stdout for _ in range(3)}
        assert len(draws) == 3

    def test_sets_print_alike_in_every_run(self) -> None:
        program = "print({str(n) for n in range(50)})"
        printed: set[str] = set()
        for _ in range(2):
            box = ProcessSandbox()
            printed.add(box.run(program).stdout)
            box.close()
        assert len(printed) == 1


@isolated
class TestFailures:
    @pytest.mark.parametrize(
        ("program", "failure", "exit_code"),
        [
            ("y = 1\nx = 2\nprint(nmae)", "line 3: NameError: name 'nmae' is not defined", 1),
            ("x = 1\ny = (", "line 2: SyntaxError: '(' was never closed", 1),
            ("def f():\n    return 1 / 0\n\nf()", "line 2: ZeroDivisionError: division by zero", 1),
            ("import json\njson.loads('{')", "line 2: json.decoder.JSONDecodeError: Expecting property name", 1),
            ("try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise KeyError('k')", "line 4: KeyError: 'k'", 1),
            ("raise ValueError('two\\nlines')", "line 1: ValueError: two", 1),
            ("assert 1 == 2", "line 1: AssertionError", 1),
            ("input()", "line 1: EOFError: the program asked for input, and it gets none", 1),
            ("import sys\nsys.exit(3)", "exit code 3", 3),
            ("import sys\nsys.exit('no solution')", "exit code 1: no solution", 1),
            ("import os\nos._exit(7)", "exit code 7", 7),
            ("import atexit\natexit.register(lambda: 1 / 0)", None, 0),
            ("x = 'a' * 10**10", "more memory than 512 MiB (line 1)", 1),
            ("x = 'a\0b'", "SyntaxError: source code string cannot contain null bytes", 1),
            ("raise KeyboardInterrupt", "line 1: KeyboardInterrupt", 1),
            ("def f(): f()\nf()", "line 1: RecursionError: maximum recursion depth exceeded", 1),
            ("import ctypes\nctypes.string_at(0)", "killed by SIGSEGV", None),
            ("import torch_that_is_not_there", "line 1: ModuleNotFoundError: No module named 'torch_that_is", 1),
            ("import subprocess\nsubprocess.run(['ls'])", "line 2: PermissionError", 1),
        ],
    )
    def test_says_why(self, sandbox: ProcessSandbox, program: str, failure: str | None, exit_code: int | None) -> None:
        result = sandbox.run(program)
        assert (result.ok, result.exit_code) == (failure is None, exit_code)
        assert (result.failure or "").startswith(failure or "")
        assert "\n" not in (result.failure or "")

    def test_the_traceback_shows_the_program_alone(self, sandbox: ProcessSandbox) -> None:
        result = run(sandbox, "def f():\n    return [][1]\nf()")
        assert result.stderr == (
            "Traceback (most recent call last):\n"
            '  File "program.py", line 3, in <module>\n    f()\n'
            '  File "program.py", line 2, in f\n    return [][1]\n           ~~^^^\n'
            "IndexError: list index out of range\n"
        )

    @pytest.mark.parametrize(
        "program",
        [
            "import time\nprint('started')\ntime.sleep(60)",
            "print('started')\nwhile True: pass",
            "print('started')\nimport signal\nsignal.pause()",
            "print('started')\nimport os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\nsignal.pause()",
        ],
    )
    def test_stops_at_the_wall_clock(self, sandbox: ProcessSandbox, program: str) -> None:
        began = time.monotonic()
        result = sandbox.run(program, limits=QUICK)
        assert time.monotonic() - began < 3
        assert (result.ok, result.exit_code, result.failure) == (False, None, "no result within 0.4 s")
        assert result.stdout == "started\n"
        assert 0.4 <= result.seconds < 3

    def test_many_threads_share_one_allowance_of_cpu_time(self, sandbox: ProcessSandbox) -> None:
        # hashlib releases the interpreter's lock, so that four threads use more CPU time than wall-clock time.
        program = """
            import hashlib, threading
            block = bytes(2**24)
            def burn():
                while True: hashlib.sha256(block)
            for _ in range(8): threading.Thread(target=burn).start()
        """
        result = run(sandbox, program, limits=Limits(seconds=1.0))
        assert result.failure == "no result within 1 s"

    def test_output_past_the_cap_ends_the_program(self, sandbox: ProcessSandbox) -> None:
        result = run(sandbox, "while True: print('x' * 99)", limits=Limits(output_bytes=1000))
        assert result.failure == "more output than 1000 bytes"
        assert result.exit_code is None
        assert result.stdout == ("x" * 99 + "\n") * 10

    def test_output_up_to_the_cap_is_kept(self, sandbox: ProcessSandbox) -> None:
        result = run(sandbox, "print('x' * 999)", limits=Limits(output_bytes=1000))
        assert result.ok
        assert len(result.stdout) == 1000

    def test_memory_is_what_the_limit_says(self, sandbox: ProcessSandbox) -> None:
        limits = Limits(memory_bytes=64 * 1024**2)
        assert run(sandbox, "x = bytearray(40 * 1024**2)", limits=limits).ok
        assert run(sandbox, "x = bytearray(70 * 1024**2)", limits=limits).failure == "more memory than 64 MiB (line 1)"

    def test_a_full_disk_fails(self, sandbox: ProcessSandbox) -> None:
        program = "for n in range(64): open(str(n), 'wb').write(bytes(2**20))\nimport time; time.sleep(0.2)"
        assert not run(sandbox, program, limits=Limits(disk_bytes=4 * 1024**2)).ok
        assert run(sandbox, "open('a', 'wb').write(bytes(2**20))", limits=Limits(disk_bytes=4 * 1024**2)).ok


ALLOW, KILL = 0x7FFF_0000, 0x8000_0000
EPERM = 0x0005_0000 | errno.EPERM
ARCHITECTURES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}


def verdict(code: bytes, architecture: int, number: int, *arguments: int) -> int:
    """What the filter `code` answers to a system call, by the rules of the kernel's interpreter."""
    padded = (*arguments, 0, 0, 0, 0, 0, 0)[:6]
    call = struct.pack("=IIQ6Q", number, architecture, 0, *padded)
    rules = list(struct.iter_unpack("=HBBI", code))
    register = at = 0
    while True:
        operation, if_true, if_false, constant = rules[at]
        at += 1
        if operation == 0x20:
            register = struct.unpack_from("=I", call, constant)[0]
        elif operation == 0x54:
            register &= constant
        elif operation == 0x06:
            return constant
        else:
            holds = {0x15: register == constant, 0x35: register >= constant, 0x45: bool(register & constant)}[operation]
            at += if_true if holds else if_false


class TestFilter:
    """On both architectures, one of which is not the one the tests run on."""

    @pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
    @pytest.mark.parametrize(
        ("name", "arguments", "answer"),
        [
            ("read", (0, 0, 9), ALLOW),
            ("exit_group", (0,), ALLOW),
            ("ptrace", (), KILL),
            ("io_uring_setup", (), KILL),
            ("kill", (77, 9), ALLOW),
            ("kill", (78, 9), EPERM),
            ("kill", (0xFFFF_FFFF, 9), EPERM),
            ("tgkill", (77, 77, 9), ALLOW),
            ("tgkill", (1, 1, 9), EPERM),
            ("clone", (0x3D0F00,), ALLOW),
            ("clone", (0x1200011,), EPERM),
            ("clone", (0x3D0F00 | 0x1000_0000,), EPERM),
            ("clone", (0x3D0F00 & ~0x400,), EPERM),
            ("clone3", (), 0x0005_0000 | errno.ENOSYS),
            ("openat", (0, 0, os.O_RDONLY), ALLOW),
            ("openat", (0, 0, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), ALLOW),
            ("openat", (0, 0, os.O_RDONLY | os.O_TRUNC), EPERM),
            ("openat", (0, 0, 3), EPERM),
            ("openat", (0, 0, os.O_RDWR | 0o20000000), EPERM),
            ("socketpair", (1, 1 | 0o2000000), ALLOW),
            ("socketpair", (1, 2), EPERM),
            ("socketpair", (2, 1), EPERM),
            ("fcntl", (3, 4), ALLOW),
            ("fcntl", (3, 8), EPERM),
            ("ioctl", (3, 0x5401), ALLOW),
            ("ioctl", (3, 0x5412), 0x0005_0000 | errno.ENOTTY),
            ("prctl", (15,), ALLOW),
            ("prctl", (1,), EPERM),
            ("prlimit64", (78,), EPERM),
        ],
    )
    def test_answers(self, machine: str, name: str, arguments: tuple[int, ...], answer: int) -> None:
        code = seccomp.assemble(machine, 77)
        number = syscalls.numbers(machine)[name]
        assert verdict(code, ARCHITECTURES[machine], number, *arguments) == answer

    @pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
    def test_what_is_not_known_is_refused(self, machine: str) -> None:
        code = seccomp.assemble(machine, 77)
        known = syscalls.numbers(machine)
        unknown = set(range(600)) - set(known.values())
        assert {verdict(code, ARCHITECTURES[machine], number) for number in unknown} == {EPERM}
        # No socket, no bind, no connect, no fork, no exec, no chmod: none of them is even in the table.
        assert not {"socket", "bind", "connect", "fork", "vfork", "execve", "chmod", "link", "symlink"} & set(known)

    @pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
    def test_another_architecture_is_killed(self, machine: str) -> None:
        code = seccomp.assemble(machine, 77)
        assert verdict(code, 0x4000_0003, syscalls.numbers(machine)["read"]) == KILL
        assert verdict(code, ARCHITECTURES[machine], 0x4000_0000 | 39) == KILL


@isolated
class TestService:
    def test_programs_run_in_parallel(self, sandbox: ProcessSandbox) -> None:
        sandbox.run("")
        programs = [f"import time; time.sleep(0.3); print({n})" for n in range(8)]
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(sandbox.run, programs))
        assert [result.stdout for result in results] == [f"{n}\n" for n in range(8)]
        # Eight on four places: two rounds.
        assert 0.6 <= time.monotonic() - began < 2.0

    def test_works_again_after_a_kill(self, sandbox: ProcessSandbox) -> None:
        assert not sandbox.run("while True: pass", limits=QUICK).ok
        assert sandbox.run("print(1)").stdout == "1\n"

    def test_a_dead_fork_server_is_replaced(self) -> None:
        box = ProcessSandbox()
        box.run("")
        server = box._server
        assert server is not None
        server._process.kill()
        server._process.wait()
        assert box.run("print(1)").stdout == "1\n"
        box.close()

    def test_a_program_whose_server_dies_has_no_result(self) -> None:
        box = ProcessSandbox()
        box.run("")
        server = box._server
        assert server is not None
        watchers: list[psutil.Process] = []

        def end_server() -> None:
            while not watchers:
                watchers.extend(psutil.Process(server._process.pid).children(recursive=True))
                time.sleep(0.01)
            time.sleep(0.1)
            server._process.send_signal(signal.SIGKILL)

        killer = threading.Thread(target=end_server)
        killer.start()
        with pytest.raises(SandboxError, match="result is unknown"):
            box.run("import time; time.sleep(30)", limits=Limits(seconds=20))
        killer.join()
        _, alive = psutil.wait_procs(watchers, timeout=5)
        assert watchers
        assert not alive
        box.close()

    def test_close_is_final_and_idempotent(self) -> None:
        box = ProcessSandbox()
        box.run("")
        server = box._server
        assert server is not None
        box.close()
        box.close()
        assert server._process.returncode is not None
        with pytest.raises(SandboxError, match="closed"):
            box.run("print(1)")

    def test_no_descriptor_is_lost(self, sandbox: ProcessSandbox) -> None:
        sandbox.run("")
        before = len(os.listdir("/proc/self/fd"))
        for program in ("print(1)", "1 / 0", "import os; os.abort()"):
            sandbox.run(program)
        assert len(os.listdir("/proc/self/fd")) == before

    def test_a_small_program_is_fast(self, sandbox: ProcessSandbox) -> None:
        sandbox.run("")
        times: list[float] = []
        for _ in range(25):
            began = time.perf_counter()
            assert sandbox.run("print(sum(range(10)))").ok
            times.append(time.perf_counter() - began)
        assert sorted(times)[len(times) // 2] <= 0.060


class TestFailsClosed:
    def test_nothing_runs_off_linux(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        with pytest.raises(SandboxError, match=r"Missing: landlock \(needs Linux, this is darwin\); seccomp"):
            ProcessSandbox().run("print(1)")

    @isolated
    def test_a_missing_layer_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from kaelum_graph.sandbox import process

        class Poorer(process.ForkServer):
            def _hear(self) -> Isolation:
                heard = super()._hear()
                return Isolation(
                    layers=tuple(set(heard.layers) - {"landlock"}), missing={"landlock": "kernel without it"}
                )

        monkeypatch.setattr(process, "ForkServer", Poorer)
        box = ProcessSandbox()
        with pytest.raises(SandboxError, match=r"^Programs cannot .* Missing: landlock \(kernel without it\)\.$"):
            box.run("print(1)")
        with pytest.raises(SandboxError):
            _ = box.isolation

    def test_no_interpreter_no_result(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/nonexistent/python")
        if sys.platform == "linux":
            with pytest.raises(SandboxError, match="did not start"):
                ProcessSandbox().run("print(1)")

    @pytest.mark.parametrize(
        ("required", "complaint"),
        [
            (frozenset({"landlock", "bubblewrap"}), "Unknown isolation layers: bubblewrap"),
            (frozenset[str](), "needs at least"),
            (frozenset({"rlimits", "no-new-privs", "seccomp"}), "landlock or namespaces"),
        ],
    )
    def test_no_less_than_the_floor_can_be_asked_for(self, required: frozenset[str], complaint: str) -> None:
        with pytest.raises(UsageError, match=complaint):
            ProcessSandbox(required=required)

    @pytest.mark.parametrize("limits", [Limits(seconds=0), Limits(memory_bytes=-1), Limits(seconds=float("nan"))])
    def test_senseless_limits_are_refused(self, limits: Limits) -> None:
        with pytest.raises(UsageError, match="expected at least"):
            ProcessSandbox().run("print(1)", limits=limits)

    def test_parallel_has_bounds(self) -> None:
        with pytest.raises(UsageError, match="parallel is 0"):
            ProcessSandbox(parallel=0)

    @isolated
    def test_probe_accounts_for_every_layer(self) -> None:
        found = probe()
        assert set(found.layers) | set(found.missing) == set(LAYERS)
        assert not set(found.layers) & set(found.missing)

    def test_the_work_folder_covers_nothing_that_is_read(self) -> None:
        assert namespaces.work_folder(("/usr/lib", "/tmpfs/lib")) == "/tmp"
        assert namespaces.work_folder(("/usr/lib", "/tmp/venv/lib")) == "/program"

    def test_the_far_side_imports_nothing_of_the_project(self) -> None:
        code = (
            "import sys; from pathlib import Path; import kaelum_graph.sandbox as s;"
            "sys.path.insert(0, str(Path(s.__file__).parent)); before = set(sys.modules);"
            "import child.server; new = set(sys.modules) - before;"
            "print(sorted(n for n in new if n.startswith(('kaelum', 'numpy', 'torch'))))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == "[]\n"


@isolated
class TestUnwantedPrograms:
    def test_a_program_that_nobody_wants_any_more_is_killed(self, sandbox: ProcessSandbox) -> None:
        over = threading.Event()
        threading.Timer(0.3, over.set).start()
        began = time.monotonic()
        with pytest.raises(SandboxError, match="over before the program was"):
            run(sandbox, "while True: pass", limits=Limits(cancelled=over.is_set))
        assert time.monotonic() - began < 3.0

    def test_one_that_waits_for_its_turn_is_never_started(self) -> None:
        busy, over = ProcessSandbox(parallel=1), threading.Event()
        try:
            running = threading.Thread(target=run, args=(busy, "import time; time.sleep(3)"))
            running.start()
            time.sleep(0.5)
            over.set()
            began = time.monotonic()
            with pytest.raises(SandboxError, match="over before the program was"):
                run(busy, "print(1)", limits=Limits(cancelled=over.is_set))
            assert time.monotonic() - began < 1.5
            running.join()
            assert run(busy, "print(1)").stdout == "1\n", "the place is given back"
        finally:
            busy.close()

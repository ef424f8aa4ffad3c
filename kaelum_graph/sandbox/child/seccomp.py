"""The system call filter: what CPython needs is allowed, what only an attack needs kills, all else is refused.

A classic BPF program, assembled here by hand: each rule is one comparison of the call's number with a body that always
returns, so there is no jump across rules to get wrong.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

from . import libc, syscalls

_ALLOW = 0x7FFF_0000
_KILL_PROCESS = 0x8000_0000
_ERRNO = 0x0005_0000

# Offsets in `struct seccomp_data`.
_NUMBER = 0
_ARCHITECTURE = 4
_ARGUMENTS = 16

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_IF_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_IF_GREATER_OR_EQUAL = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_IF_ANY_BIT = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

_AUDIT_ARCHITECTURES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_X32_BIT = 0x4000_0000

_CLONE_FILES = 0x400
_CLONE_THREAD = 0x1_0000
_CLONE_NAMESPACES = 0x7E02_0000
_AF_UNIX = 1
_SOCK_STREAM = 1
_SOCK_TYPE_MASK = 0xF
_O_ACCMODE = 0o3
_O_TRUNC = 0o1000
_TMPFILE = 0o20000000

# isatty, window size, bytes waiting, blocking mode, close-on-exec.
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# Duplicate, flags, record locks, pipe size. Not F_SETOWN, F_SETSIG, F_SETLEASE, F_NOTIFY: they reach other processes.
_FCNTLS = (0, 1, 2, 3, 4, 5, 6, 7, 1030, 1032)
# Set and get the thread's name, is it dumpable, name an anonymous mapping.
_PRCTLS = (15, 16, 3, 0x5356_4D41)

_ALLOWED = """
read write creat close close_range stat fstat lstat newfstatat statx poll ppoll lseek mmap mprotect munmap brk madvise
mremap msync mincore rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack
pause pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2 access faccessat faccessat2 pipe pipe2 select
pselect6 sched_yield dup dup2 dup3 nanosleep clock_nanosleep getitimer setitimer alarm getpid getppid gettid getpgrp
getpgid getsid sendfile sendto recvfrom shutdown getsockopt getsockname getpeername exit exit_group wait4 waitid uname
fsync fdatasync ftruncate fallocate fadvise64 getdents getdents64 getcwd chdir fchdir rename renameat renameat2 mkdir
mkdirat rmdir unlink unlinkat readlink readlinkat umask gettimeofday getrlimit setrlimit getrusage sysinfo times getuid
getgid geteuid getegid getresuid getresgid getgroups statfs fstatfs futex futex_waitv sched_getaffinity
sched_getscheduler sched_getparam getcpu epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
eventfd2 set_tid_address set_robust_list get_robust_list rseq membarrier restart_syscall clock_gettime clock_getres time
getrandom copy_file_range getpriority
"""

_KILLED = """
acct add_key adjtimex bpf chroot clock_adjtime clock_settime delete_module execveat fanotify_init finit_module fsconfig
fsmount fsopen fspick init_module io_setup io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp
kexec_file_load kexec_load keyctl lookup_dcookie memfd_create memfd_secret modify_ldt mount mount_setattr move_mount
name_to_handle_at open_by_handle_at open_tree perf_event_open personality pidfd_getfd pivot_root process_madvise
process_mrelease process_vm_readv process_vm_writev ptrace quotactl reboot request_key setdomainname sethostname setns
settimeofday swapoff swapon syslog umount2 unshare userfaultfd
"""

_Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, constant: one `struct sock_filter`."""


def unavailable_because() -> str | None:
    """Why this architecture has no filter, or None when it has one."""
    machine = os.uname().machine
    if machine not in _AUDIT_ARCHITECTURES:
        return f"no system call filter for {machine}"
    if sys.maxsize <= 2**32 or sys.byteorder != "little":
        return "the system call filter needs a 64-bit little-endian process"
    return None


def install(process_id: int) -> None:
    """Filter the calling thread's system calls for good; `process_id` is the one process it may signal.

    Needs no_new_privs. Raises `OSError`.
    """
    program = assemble(os.uname().machine, process_id)
    code = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    libc.prctl(libc.PR_SET_SECCOMP, libc.SECCOMP_MODE_FILTER, header)


def assemble(machine: str, process_id: int) -> bytes:
    """The filter for `machine`, 8 bytes an instruction."""
    numbers = syscalls.numbers(machine)
    refuse = _answer(errno.EPERM)
    instructions: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_IF_EQUAL, 1, 0, _AUDIT_ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
        (_IF_GREATER_OR_EQUAL, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _KILL_PROCESS),
    ]
    rules: dict[str, list[_Instruction]] = {
        "ioctl": _one_of(1, _IOCTLS, otherwise=errno.ENOTTY),
        "fcntl": _one_of(1, _FCNTLS),
        "prctl": _one_of(0, _PRCTLS),
        "kill": _one_of(0, (0, process_id)),
        "tgkill": _one_of(0, (process_id,)),
        "prlimit64": _one_of(0, (0, process_id)),
        # Threads yes, processes and namespaces no: one process is all that has to be bounded and killed.
        "clone": [
            _argument(0),
            (_AND, 0, 0, _CLONE_THREAD | _CLONE_FILES | _CLONE_NAMESPACES),
            (_IF_EQUAL, 0, 1, _CLONE_THREAD | _CLONE_FILES),
            _answer(0),
            refuse,
        ],
        # glibc then falls back to clone, whose flags a filter can read.
        "clone3": [_answer(errno.ENOSYS)],
        # A connected stream pair, which asyncio needs; every other socket, and datagrams to any address, are refused.
        "socketpair": [
            _argument(0),
            (_IF_EQUAL, 0, 3, _AF_UNIX),
            _argument(1),
            (_AND, 0, 0, _SOCK_TYPE_MASK),
            (_IF_EQUAL, 1, 0, _SOCK_STREAM),
            refuse,
            _answer(0),
        ],
        "open": _open(flags_argument=1),
        "openat": _open(flags_argument=2),
    }
    rules |= {name: [_answer(0)] for name in _ALLOWED.split()}
    rules |= {name: [(_RETURN, 0, 0, _KILL_PROCESS)] for name in _KILLED.split()}
    for name, body in rules.items():
        if name in numbers:
            instructions.append((_IF_EQUAL, 0, len(body), numbers[name]))
            instructions.extend(body)
    instructions.append(refuse)
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)


def _answer(number: int) -> _Instruction:
    """Let the call through for 0, else make it fail with that errno."""
    return (_RETURN, 0, 0, _ERRNO | number if number else _ALLOW)


def _argument(index: int) -> _Instruction:
    # The low half: each argument tested here is an int that the kernel truncates to 32 bits.
    return (_LOAD, 0, 0, _ARGUMENTS + 8 * index)


def _one_of(index: int, values: tuple[int, ...], *, otherwise: int = errno.EPERM) -> list[_Instruction]:
    body = [_argument(index)]
    for value in values:
        body += [(_IF_EQUAL, 0, 1, value), _answer(0)]
    return [*body, _answer(otherwise)]


def _open(*, flags_argument: int) -> list[_Instruction]:
    # Landlock before ABI 3 lets a file be truncated through a descriptor opened for reading, or for neither. And a
    # file that never had a name is not seen by whoever adds up the sizes in a folder.
    return [
        _argument(flags_argument),
        (_IF_ANY_BIT, 5, 0, _TMPFILE),
        (_AND, 0, 0, _O_ACCMODE | _O_TRUNC),
        (_IF_EQUAL, 3, 0, _O_TRUNC),
        (_AND, 0, 0, _O_ACCMODE),
        (_IF_EQUAL, 1, 0, _O_ACCMODE),
        _answer(0),
        _answer(errno.EPERM),
    ]

"""System call numbers, by name, for the two architectures that the filter knows."""

from __future__ import annotations

# name:x86_64:aarch64, with - where the architecture has no such call.
_TABLE = """
read:0:63 write:1:64 open:2:- openat:257:56 creat:85:- close:3:57 close_range:436:436 stat:4:- fstat:5:80 lstat:6:-
newfstatat:262:79 statx:332:291 poll:7:- ppoll:271:73 lseek:8:62 mmap:9:222 mprotect:10:226 munmap:11:215 brk:12:214
madvise:28:233 mremap:25:216 msync:26:227 mincore:27:232 rt_sigaction:13:134 rt_sigprocmask:14:135 rt_sigreturn:15:139
rt_sigpending:127:136 rt_sigtimedwait:128:137 rt_sigsuspend:130:133 sigaltstack:131:132 pause:34:- ioctl:16:29
pread64:17:67 pwrite64:18:68 readv:19:65 writev:20:66 preadv:295:69 pwritev:296:70 preadv2:327:286 pwritev2:328:287
access:21:- faccessat:269:48 faccessat2:439:439 pipe:22:- pipe2:293:59 select:23:- pselect6:270:72 sched_yield:24:124
dup:32:23 dup2:33:- dup3:292:24 nanosleep:35:101 clock_nanosleep:230:115 getitimer:36:102 setitimer:38:103 alarm:37:-
getpid:39:172 getppid:110:173 gettid:186:178 getpgrp:111:- getpgid:121:155 getsid:124:156 sendfile:40:71
socketpair:53:199 sendto:44:206 recvfrom:45:207 shutdown:48:210 getsockopt:55:209 getsockname:51:204 getpeername:52:205
clone:56:220 clone3:435:435 exit:60:93 exit_group:231:94 wait4:61:260 waitid:247:95 kill:62:129 tgkill:234:131
uname:63:160 fcntl:72:25 fsync:74:82 fdatasync:75:83 ftruncate:77:46 fallocate:285:47 fadvise64:221:223
getdents:78:- getdents64:217:61 getcwd:79:17 chdir:80:49 fchdir:81:50 rename:82:- renameat:264:38 renameat2:316:276
mkdir:83:- mkdirat:258:34 rmdir:84:- unlink:87:- unlinkat:263:35 readlink:89:- readlinkat:267:78 umask:95:166
gettimeofday:96:169 getrlimit:97:163 setrlimit:160:164 prlimit64:302:261 getrusage:98:165 sysinfo:99:179 times:100:153
getuid:102:174 getgid:104:176 geteuid:107:175 getegid:108:177 getresuid:118:148 getresgid:120:150 getgroups:115:158
statfs:137:43 fstatfs:138:44 prctl:157:167 futex:202:98 futex_waitv:449:449 sched_getaffinity:204:123
sched_getscheduler:145:120 sched_getparam:143:121 getcpu:309:168 epoll_create:213:- epoll_create1:291:20
epoll_ctl:233:21 epoll_wait:232:- epoll_pwait:281:22 epoll_pwait2:441:441 eventfd2:290:19 set_tid_address:218:96
set_robust_list:273:99 get_robust_list:274:100 rseq:334:293 membarrier:324:283 restart_syscall:219:128
clock_gettime:228:113 clock_getres:229:114 time:201:- getrandom:318:278 copy_file_range:326:285 getpriority:140:141

acct:163:89 add_key:248:217 adjtimex:159:171 bpf:321:280 chroot:161:51 clock_adjtime:305:266 clock_settime:227:112
delete_module:176:106 execveat:322:281 fanotify_init:300:262 finit_module:313:273 fsconfig:431:431 fsmount:432:432
fsopen:430:430 fspick:433:433 init_module:175:105 io_setup:206:0 io_uring_enter:426:426 io_uring_register:427:427
io_uring_setup:425:425 ioperm:173:- iopl:172:- kcmp:312:272 kexec_file_load:320:294 kexec_load:246:104 keyctl:250:219
lookup_dcookie:212:18 memfd_create:319:279 memfd_secret:447:447 modify_ldt:154:- mount:165:40 mount_setattr:442:442
move_mount:429:429 name_to_handle_at:303:264 open_by_handle_at:304:265 open_tree:428:428 perf_event_open:298:241
personality:135:92 pidfd_getfd:438:438 pivot_root:155:41 process_madvise:440:440 process_mrelease:448:448
process_vm_readv:310:270 process_vm_writev:311:271 ptrace:101:117 quotactl:179:60 reboot:169:142 request_key:249:218
setdomainname:171:162 sethostname:170:161 setns:308:268 settimeofday:164:170 swapoff:168:225 swapon:167:224
syslog:103:116 umount2:166:39 unshare:272:97 userfaultfd:323:282
"""

_COLUMNS = {"x86_64": 1, "aarch64": 2}


def numbers(machine: str) -> dict[str, int]:
    """Number by name on `machine` (as `os.uname` spells it); raises `KeyError` for an architecture not known here."""
    column = _COLUMNS[machine]
    rows = (entry.split(":") for entry in _TABLE.split())
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}

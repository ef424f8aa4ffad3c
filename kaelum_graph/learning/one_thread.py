"""Arithmetic in one thread: sums split among several round differently, and what is learned must not depend on them.

For tables of a learner's size it is also faster: several threads would wait for each other, and for the language model.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController

_TURN = threading.RLock()


@contextmanager
def one_thread() -> Generator[None]:
    """Hold this thread's linear algebra in numpy and torch to itself. `@one_thread()` is for a whole function.

    OpenBLAS (numpy) has one number of threads for the whole process, so one thread at a time is in here. What
    outdoes it: MKL_NUM_THREADS, where it is set, and numbers that a program keeps by threadpoolctl in another thread.
    """
    import torch  # not above: those who only list versions need not wait for it

    torch.get_num_threads()  # torch sets the number of a thread that it sees for the first time
    # Looked for anew, which takes a millisecond: a library that is loaded later brings a pool of its own.
    with _TURN, ThreadpoolController().limit(limits=1):
        yield

"""How many threads a fit uses, and BLAS held to one of them meanwhile.

The kernels run in Python threads over fixed blocks of rows. BLAS threads would compete with
them for the cores, and make results depend on their number in the last bits.
"""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache

import joblib
from joblib.parallel import get_active_backend
from threadpoolctl import ThreadpoolController

# Below this many elements of X a pass takes less time than waking a thread.
_MIN_ELEMENTS = 100_000


def n_threads():
    """The least of usable cores, OMP_NUM_THREADS, NUMBA_NUM_THREADS; 1 in a worker."""
    # effective_n_jobs would not do: in a threading worker it still says all cores.
    if get_active_backend()[0].nesting_level:
        return 1
    limits = [joblib.cpu_count()]
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        value = os.environ.get(name, "").split(",")[0].strip()
        if value.isdigit() and int(value):
            limits.append(int(value))
    return min(limits)


class Team:
    """Runs ``task(first, step)`` for first = 0 … step − 1, in threads where it pays.

    Use as a context manager; the threads live as long as the fit does, so that nothing is
    left behind for a fork.
    """

    def __init__(self, n_elements):
        self.size = n_threads() if n_elements >= _MIN_ELEMENTS else 1
        self._pool = None

    def __enter__(self):
        # An interpreter that is going down starts no more threads.
        if self.size > 1 and threading.main_thread().is_alive():
            self._pool = ThreadPoolExecutor(self.size - 1, "skrobust")
        return self

    def __exit__(self, *exception):
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def run(self, task):
        if self._pool is None:
            task(0, 1)
            return
        futures = [self._pool.submit(task, t, self.size) for t in range(1, self.size)]
        try:
            task(0, self.size)
        finally:
            # Also on Ctrl-C: no thread may still write when the arrays are given up.
            for future in futures:
                future.exception()
        for future in futures:
            future.result()


@cache
def _blas():
    return ThreadpoolController().select(user_api="blas")


def _take_control():
    """Let this thread set the limit, whichever did before.

    From version 3.7 on threadpoolctl ignores all threads but the first that set one.
    """
    for library in _blas().lib_controllers:
        clear = getattr(library, "clear_controlling_thread", None)
        if clear is not None:
            clear(force=True)


_lock = threading.Lock()
_fits = 0
_limiter = None


@contextmanager
def single_threaded_blas():
    """Hold BLAS to one thread while any fit of this process is in progress.

    The limit is the process's, so overlapping fits share it: the first saves and the last
    restores the numbers of threads.
    """
    global _fits, _limiter
    entered = False
    try:
        with _lock:
            if _limiter is None:
                _take_control()
                _limiter = _blas().limit(limits=1)
            _fits += 1
            entered = True
        yield
    finally:
        if entered:
            with _lock:
                _fits -= 1
                if _fits == 0:
                    _restore()


def _restore():
    global _limiter
    if _limiter is not None:
        _take_control()
        _limiter.restore_original_limits()
        _limiter = None
        _take_control()


def _forget_fits_of_the_parent():
    global _lock, _fits
    _lock, _fits = threading.Lock(), 0
    _restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_fits_of_the_parent)

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

# A pass over fewer elements of X takes less time alone than with a thread that must be woken.
_WORTH = 1_000_000


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

    def __init__(self):
        self._entered = False
        self._size: int | None = None
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self):
        self._entered = True
        return self

    def __exit__(self, *exception):
        self._entered = False
        self._close()

    def _close(self):
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def run(self, task, work):
        """Run a task as long as a pass over `work` elements of X."""
        size = self._threads() if self._entered and work >= _WORTH else 1
        if size == 1:
            task(0, 1)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(size - 1, "skrobust")
        try:
            futures = [self._pool.submit(task, t, size) for t in range(1, size)]
        except RuntimeError:
            # No more can be started: the main thread has ended, or there are too many.
            self._close()
            self._size = 1
            task(0, 1)
            return
        try:
            task(0, size)
        finally:
            # Also on Ctrl-C: no thread may still write when the arrays are given up.
            for future in futures:
                future.exception()
        for future in futures:
            future.result()

    def _threads(self):
        # Asked once and late: to count the processors takes a part of a small fit.
        if self._size is None:
            self._size = n_threads()
        return self._size


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


_lock = threading.RLock()
_fits: set = set()
# The libraries and their numbers of threads, while they are held.
_held: list = []


@contextmanager
def single_threaded_blas():
    """Hold BLAS to one thread while any fit of this process is in progress.

    The limit is the process's, so overlapping fits share it: the first saves and the last
    restores the numbers of threads.
    """
    fit = object()
    try:
        with _lock:
            _fits.add(fit)
            _hold()
        yield
    finally:
        try:
            _leave(fit)
        except BaseException:
            # Ctrl-C may come here as well.
            _leave(fit)
            raise


def _hold():
    """Save before anything is changed, so that nothing is lost whenever Ctrl-C comes."""
    global _held
    if not _held:
        _take_control()
        _held = [(library, library.num_threads) for library in _blas().lib_controllers]
        for library, _ in _held:
            library.set_num_threads(1)


def _leave(fit):
    with _lock:
        _fits.discard(fit)
        if not _fits:
            _restore()


def _restore():
    global _held
    if _held:
        _take_control()
        for library, n in _held:
            library.set_num_threads(n)
        _held = []
        _take_control()


def _forget_fits_of_the_parent():
    global _lock
    _lock = threading.RLock()
    _fits.clear()
    _restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_fits_of_the_parent)

"""Threads for the passes of a fit, and the limit of one BLAS thread during a fit.

The kernels run in Python threads over fixed blocks of rows. BLAS threads would compete with
them for the cores, and their number would affect the last bits of the results.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, Self

import joblib
from joblib.parallel import get_active_backend
from threadpoolctl import ThreadpoolController

# Minimum number of elements of X for a multithreaded pass. With fewer elements, waking another
# thread takes more time than it saves.
MIN_ELEMENTS_PER_EXTRA_THREAD = 1_000_000


def n_threads() -> int:
    """Return the number of threads that a fit uses.

    A fit uses as many threads as there are cores, but at most OMP_NUM_THREADS and
    NUMBA_NUM_THREADS. In a joblib worker, it uses one thread.
    """
    # joblib.effective_n_jobs is not used, since it returns the number of cores in a worker of
    # the threading backend.
    if get_active_backend()[0].nesting_level:
        return 1
    limits: list[int] = [joblib.cpu_count()]
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        value = os.environ.get(name, "").split(",")[0].strip()
        if value.isdigit() and int(value):
            limits.append(int(value))
    return min(limits)


class ThreadTeam:
    """Runs ``task(first, step)`` for first = 0 … step − 1, each in one of `step` threads.

    The team is a context manager. Its threads end with the fit, so none is running when the
    process is forked later.
    """

    def __init__(self) -> None:
        self._entered = False
        self._size: int | None = None
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        self._entered = True
        return self

    def __exit__(self, *exception: object) -> None:
        self._entered = False
        self._close()

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def run(self, task: Callable[[int, int], object], n_elements: int) -> None:
        """Run a task that takes about as long as a pass over `n_elements` elements of X."""
        size = (
            self._threads()
            if self._entered and n_elements >= MIN_ELEMENTS_PER_EXTRA_THREAD
            else 1
        )
        if size == 1:
            task(0, 1)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(size - 1, "skrobust")
        try:
            futures = [self._pool.submit(task, t, size) for t in range(1, size)]
        except RuntimeError:
            # No thread can be started, because the main thread has ended or too many threads
            # exist.
            self._close()
            self._size = 1
            task(0, 1)
            return
        try:
            task(0, size)
        finally:
            # Even after Ctrl-C, the threads are awaited, since they write to arrays of this
            # fit.
            for future in futures:
                future.exception()
        for future in futures:
            future.result()

    def _threads(self) -> int:
        # Determining the number of threads takes a noticeable share of the fit time if X is
        # small, so it is done only once and only if needed.
        if self._size is None:
            self._size = n_threads()
        return self._size


@cache
def _blas() -> Any:
    return ThreadpoolController().select(user_api="blas")


def _take_over_threadpoolctl() -> None:
    """Allow this thread to set the number of BLAS threads even if another thread has set it.

    Since version 3.7, threadpoolctl ignores a limit set by any thread except the first to set
    one.
    """
    for library in _blas().lib_controllers:
        clear = getattr(library, "clear_controlling_thread", None)
        if clear is not None:
            clear(force=True)


_lock = threading.RLock()
_active_fits: set[object] = set()
# The BLAS libraries and their original numbers of threads while the limit is in effect.
_saved: list[tuple[Any, int]] = []


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Limit BLAS to one thread while any fit in this process is in progress.

    The limit applies to the whole process, and concurrent fits share it: the first to start
    saves the original numbers of threads, and the last to end restores them.
    """
    fit = object()
    try:
        with _lock:
            _active_fits.add(fit)
            _limit_blas()
        yield
    finally:
        try:
            _release(fit)
        except BaseException:
            # The release is repeated, since Ctrl-C may have interrupted it.
            _release(fit)
            raise


def _limit_blas() -> None:
    """Limit BLAS to one thread.

    The original numbers of threads of all BLAS libraries are saved before any of them is
    changed, so none is lost after Ctrl-C.
    """
    global _saved
    if not _saved:
        _take_over_threadpoolctl()
        _saved = [(library, library.num_threads) for library in _blas().lib_controllers]
        for library, _ in _saved:
            library.set_num_threads(1)


def _release(fit: object) -> None:
    with _lock:
        _active_fits.discard(fit)
        if not _active_fits:
            _restore()


def _restore() -> None:
    global _saved
    if _saved:
        _take_over_threadpoolctl()
        for library, n in _saved:
            library.set_num_threads(n)
        _saved = []
        _take_over_threadpoolctl()


def _forget_fits_of_the_parent() -> None:
    global _lock
    _lock = threading.RLock()
    _active_fits.clear()
    _restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_fits_of_the_parent)

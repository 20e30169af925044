"""Import and just-in-time compilation of the kernels, once per process.

Other threads wait until the import or compilation has finished. A fork waits too, because a
lock held by another thread, such as an import lock, would stay locked in the child process.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from types import ModuleType
from typing import Any

_compile_lock = threading.RLock()


def compile_once(builder: Callable[..., Any]) -> Callable[..., Any]:
    """Return a cached version of a function that compiles code.

    The returned function can be called from several threads; a lock makes them run it in turn.
    """
    cached = functools.cache(builder)

    @functools.wraps(builder)
    def locked(*key: Hashable) -> Any:
        with _compile_lock:
            return cached(*key)

    return locked


@functools.cache
def kernels() -> ModuleType:
    """Return the kernel module, which imports Numba.

    The import runs in another thread because Ctrl-C interrupts the main thread. An interrupted
    import leaves Numba partly imported, which a later import does not repair.
    """
    try:
        with ThreadPoolExecutor(1) as pool:
            imported = pool.submit(_import_kernels)
    except RuntimeError:
        # No thread can be started, for example during interpreter shutdown.
        return _import_kernels()
    return imported.result()


def _import_kernels() -> ModuleType:
    # This thread holds the lock, because Ctrl-C may interrupt the thread that waits for this
    # thread to finish.
    with _compile_lock:
        return import_module(f"{__package__}.kernels")


def _acquire() -> None:
    """Acquire the lock before a fork, even if a signal handler raises an exception meanwhile.

    An exception raised by a signal handler does not prevent the fork, after which the lock is
    released.
    """
    acquired: list[bool] = []
    try:
        # A single call acquires the lock and records the acquisition, so no signal handler can
        # run between the two.
        acquired.extend(map(_compile_lock.acquire, [True]))
    finally:
        if not acquired:
            _acquire()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_acquire,
        after_in_parent=_compile_lock.release,
        after_in_child=_compile_lock.release,
    )

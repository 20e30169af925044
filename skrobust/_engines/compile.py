"""The kernels, imported and compiled once in a process, on first use.

Other threads wait meanwhile. So does a fork, since in the child a lock that another thread
holds, such as that of an import, would stay locked for ever.
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
    """Cache what a function compiles, and let no two threads compile at the same time."""
    cached = functools.cache(builder)

    @functools.wraps(builder)
    def locked(*key: Hashable) -> Any:
        with _compile_lock:
            return cached(*key)

    return locked


@functools.cache
def kernels() -> ModuleType:
    """Return the module of the kernels, which imports Numba.

    The import runs in another thread, since signal handlers run in the main thread: Ctrl-C
    would leave Numba half imported, and no later import repairs that.
    """
    try:
        with ThreadPoolExecutor(1) as pool:
            imported = pool.submit(_import_kernels)
    except RuntimeError:
        # No thread can be started, as at the end of the interpreter.
        return _import_kernels()
    return imported.result()


def _import_kernels() -> ModuleType:
    # The importing thread holds the lock, also when nobody waits for it any more.
    with _compile_lock:
        return import_module(f"{__package__}.kernels")


def _acquire() -> None:
    """Acquire the lock, also if a signal handler raises meanwhile, which a fork only prints."""
    acquired: list[bool] = []
    try:
        # One call, so that no handler runs between acquiring and recording.
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

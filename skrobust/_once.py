"""What a process makes once: the kernels, imported and compiled on first use.

Other threads wait meanwhile. So does a fork, since in the child a lock that another thread
held, also that of an import, would stay locked for ever.
"""

import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

_making = threading.RLock()


def once(builder):
    """Cache what a function makes, and let no two threads make anything at the same time."""
    cached = functools.cache(builder)

    @functools.wraps(builder)
    def locked(*key):
        with _making:
            return cached(*key)

    return locked


@functools.cache
def kernels():
    """The module of the kernels, which imports Numba.

    In another thread, since handlers of signals run in the main one: Ctrl-C would leave Numba
    half imported, and no later import mends that.
    """
    try:
        with ThreadPoolExecutor(1) as pool:
            imported = pool.submit(_import)
    except RuntimeError:
        # No thread can be started, as at the end of the interpreter.
        return _import()
    return imported.result()


def _import():
    # The thread that imports has the lock, also when nobody waits for it any more.
    with _making:
        return import_module(f"{__package__}._kernels")


def _acquire():
    """Also if the handler of a signal raises meanwhile, which a fork only prints."""
    held: list = []
    try:
        # In one call, so that no handler runs between the two.
        held.extend(map(_making.acquire, [True]))
    finally:
        if not held:
            _acquire()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_acquire, after_in_parent=_making.release, after_in_child=_making.release
    )

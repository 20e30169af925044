"""Kernels are imported once, in a separate thread, and only one thread compiles at a time.

Forks and signals are tested in test_runtime.py.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from skrobust._engines import compile as compilation

# `kernels` without its cache, since other tests have already imported the kernels.
kernels = compilation.kernels.__wrapped__


@pytest.mark.parametrize("error", [ImportError, RuntimeError])
def test_an_error_of_the_import_is_raised_and_a_later_try_possible(monkeypatch, error):
    tried = []

    def fail(name):
        tried.append(name)
        raise error("broken")

    monkeypatch.setattr(compilation, "import_module", fail)
    with pytest.raises(error, match="broken"):
        kernels()
    assert tried == ["skrobust._engines.kernels"]
    monkeypatch.undo()
    assert kernels().__name__ == "skrobust._engines.kernels"


def test_the_thread_that_imports_holds_the_lock(monkeypatch):
    # A fork in another thread waits for this lock and therefore for the import to finish. A
    # fork in the importing thread does not wait.
    held, lock = [], compilation._compile_lock

    def import_module(name):
        other = threading.Thread(target=lambda: held.append(lock.acquire(timeout=0.1)))
        other.start()
        other.join()
        held.append(lock.acquire(timeout=10))
        lock.release()

    monkeypatch.setattr(compilation, "import_module", import_module)
    kernels()
    assert held == [False, True]


def test_the_import_runs_in_this_thread_where_no_other_can_be_started(monkeypatch):
    def refuse(*args):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    assert kernels().__name__ == "skrobust._engines.kernels"


def test_what_is_built_is_cached_by_its_arguments():
    built = []

    @compilation.compile_once
    def build(*key):
        """Build for a key."""
        built.append(key)
        return object()

    first = build(1, "C")
    assert build(1, "C") is first
    assert build(1, "F") is not first
    assert built == [(1, "C"), (1, "F")]
    assert (build.__name__, build.__doc__) == ("build", "Build for a key.")


def test_one_thread_compiles_at_a_time_and_only_once():
    within, most, built = [], [], []

    @compilation.compile_once
    def build(key):
        within.append(key)
        time.sleep(0.01)
        most.append(len(within))
        within.remove(key)
        built.append(key)
        return object()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(build, [0, 1, 2, 3] * 4))
    assert max(most) == 1
    assert sorted(built) == [0, 1, 2, 3]
    assert found == found[:4] * 4


def test_a_function_that_compiles_may_compile_another_function():
    inner = compilation.compile_once(lambda key: [key])
    outer = compilation.compile_once(lambda key: [*inner(key), key])
    assert outer("C") == ["C", "C"]

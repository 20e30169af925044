"""The kernels are imported once, in a thread of their own; forks and signals: test_runtime."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from skrobust import _once

# Without the cache, since other tests have the kernels already.
kernels = _once.kernels.__wrapped__


@pytest.mark.parametrize("error", [ImportError, RuntimeError])
def test_an_error_of_the_import_is_raised_and_a_later_try_possible(monkeypatch, error):
    tried = []

    def fail(name):
        tried.append(name)
        raise error("broken")

    monkeypatch.setattr(_once, "import_module", fail)
    with pytest.raises(error, match="broken"):
        kernels()
    assert tried == ["skrobust._kernels"]
    monkeypatch.undo()
    assert kernels().__name__ == "skrobust._kernels"


def test_the_thread_that_imports_has_the_lock(monkeypatch):
    # So a fork waits also when nobody waits for the import any more, but for one within it.
    held = []

    def import_module(name):
        other = threading.Thread(target=lambda: held.append(_once._making.acquire(timeout=0.1)))
        other.start()
        other.join()
        held.append(_once._making.acquire(timeout=10))
        _once._making.release()

    monkeypatch.setattr(_once, "import_module", import_module)
    kernels()
    assert held == [False, True]


def test_where_no_thread_can_be_started_the_import_goes_on_without(monkeypatch):
    def refuse(*args):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refuse)
    assert kernels().__name__ == "skrobust._kernels"

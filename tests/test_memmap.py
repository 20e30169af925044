"""Fits to memory-mapped data: the operating system reads X, and a fit does not copy it."""

import sys

import numpy as np
import pytest

from programs import PREAMBLE, fitted, heavy_tailed, run

# A fifth of X is 32 MB, far more than the variation in the interpreter's memory use.
N, P = 400_000, 50

MAPPED = """
import threading
import numpy as np
from skrobust import SmoothL1Regressor

def anonymous():
    # Return the anonymous memory in bytes, which excludes pages of memory-mapped files.
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])

def peak_of(task):
    # Return the result of a task and its peak memory, which is measured every millisecond.
    before, peak, done = anonymous(), 0, threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return task(), peak - before
    finally:
        done.set()
        watcher.join()

X, y = (np.load(name, mmap_mode="r") for name in ("X.npy", "y.npy"))
programs.fitted(X[:20_000], y[:20_000])  # compiles
digest, of_map = peak_of(lambda: programs.fitted(X, y))
_, of_copy = peak_of(lambda: programs.fitted(np.array(X), y))
print(digest, of_map / X.nbytes, of_copy / X.nbytes)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_fit_of_a_map_takes_a_fifth_of_its_memory_and_has_the_bits_of_memory(tmp_path):
    X, y = heavy_tailed(N, P)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    digest, of_map, of_copy = run(PREAMBLE + MAPPED, cwd=tmp_path).split()
    assert digest == fitted(X, y)
    assert float(of_map) < 0.2
    # The measurement detects the copy of X that is made on purpose in the second fit.
    assert float(of_copy) > 0.9

"""A fit uses the right number of threads and leaves neither threads nor limits behind."""

import functools
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from skrobust import SmoothL1Regressor
from skrobust._engines import threads
from skrobust._engines.threads import ThreadTeam, n_threads, single_threaded_blas

pytestmark = pytest.mark.slow

# Number of threads -----------------------------------------------------------------------


@pytest.fixture
def cores(monkeypatch):
    """Simulate eight usable cores and no limits on the number of threads."""
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    return monkeypatch


@pytest.mark.parametrize(
    ("omp", "numba", "expected"),
    [
        (None, None, 8),
        ("3", None, 3),
        (None, "5", 5),
        ("3", "5", 3),
        ("6", "2", 2),
        ("64", None, 8),
        ("4,2", None, 4),  # OpenMP: one number for each level of nesting
        (" 2 ", None, 2),
        ("", "", 8),
        ("0", "many", 8),
        ("-1", "1.5", 8),
    ],
)
def test_the_number_of_threads_is_the_least_of_cores_and_limits(cores, omp, numba, expected):
    for name, value in (("OMP_NUM_THREADS", omp), ("NUMBA_NUM_THREADS", numba)):
        if value is not None:
            cores.setenv(name, value)
    assert n_threads() == expected


def test_the_environment_is_read_at_each_fit_not_at_import(cores):
    cores.setenv("OMP_NUM_THREADS", "2")
    assert n_threads() == 2
    cores.setenv("OMP_NUM_THREADS", "4")
    assert n_threads() == 4


@pytest.mark.parametrize("prefer", ["threads", "sequential"])
def test_one_thread_inside_a_joblib_worker_that_is_a_thread(cores, prefer):
    backend = "threading" if prefer == "threads" else "sequential"
    with joblib.parallel_config(backend, n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(n_threads)() for _ in range(3))
    assert found == ([1] * 3 if prefer == "threads" else [8] * 3)
    assert n_threads() == 8  # the parent is not a worker


def run(program, *flags, **environment):
    """Return the output of a program in a fresh interpreter."""
    command = [sys.executable, *flags, "-c", program]
    options = {"capture_output": True, "text": True, "timeout": 60, "check": False}
    done = subprocess.run(command, env=os.environ | environment, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Team ------------------------------------------------------------------------------------

LONG = 10**9


@pytest.fixture(params=[1, 2, 3, 5])
def size(request, monkeypatch):
    monkeypatch.setattr(threads, "n_threads", lambda: request.param)
    return request.param


def our_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("skrobust")]


def test_a_team_runs_every_part_of_a_task_once(size):
    shares = []
    with ThreadTeam() as team:
        for _ in range(20):
            team.run(lambda first, step: shares.append((first, step)), LONG)
            assert sorted(shares) == [(first, size) for first in range(size)]
            shares.clear()


def test_a_team_uses_the_thread_of_the_caller_and_others_and_leaves_none(size):
    names, barrier = [], threading.Barrier(size)

    def task(first, step):
        barrier.wait(10)  # returns only if all threads run concurrently
        names.append(threading.current_thread().name)

    with ThreadTeam() as team:
        team.run(task, LONG)
        assert len(our_threads()) == size - 1
    assert len(set(names)) == size
    assert threading.current_thread().name in names
    assert our_threads() == []


def test_a_small_task_and_a_team_that_was_not_entered_start_no_thread(monkeypatch):
    monkeypatch.setattr(threads, "n_threads", lambda: 4)
    shares = []
    with ThreadTeam() as team:
        team.run(lambda *share: shares.append(share), 999_999)
        assert our_threads() == []
    ThreadTeam().run(lambda *share: shares.append(share), LONG)
    assert shares == [(0, 1), (0, 1)]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_an_exception_in_a_thread_is_raised_after_all_threads_have_ended(monkeypatch, failing):
    monkeypatch.setattr(threads, "n_threads", lambda: 3)
    ended = []

    def task(first, step):
        if first == failing:
            raise ZeroDivisionError(f"in share {first}")
        time.sleep(0.05)
        ended.append(first)

    with ThreadTeam() as team:
        with pytest.raises(ZeroDivisionError, match=f"in share {failing}"):
            team.run(task, LONG)
        assert sorted(ended) == [first for first in range(3) if first != failing]
    assert our_threads() == []


def test_an_interrupt_is_raised_after_the_other_threads_have_ended(monkeypatch):
    monkeypatch.setattr(threads, "n_threads", lambda: 2)
    ended = []

    def task(first, step):
        if first == 0:
            raise KeyboardInterrupt
        time.sleep(0.1)
        ended.append(first)

    with ThreadTeam() as team:
        with pytest.raises(KeyboardInterrupt):
            team.run(task, LONG)
        assert ended == [1]
    assert our_threads() == []


WHEN_MAIN_ENDS = """
import threading, time
from concurrent.futures import thread as executors
from skrobust._engines import threads

threads.n_threads = lambda: 2
def fit():
    with threads.ThreadTeam() as team:
        for _ in range(2):
            shares = []
            team.run(lambda *share: shares.append(share), 1_000_000)
            print(sorted(shares))
            begun.set()
            while not executors._shutdown:
                time.sleep(0.01)
begun = threading.Event()
threading.Thread(target=fit).start()
begun.wait()
"""


def test_a_fit_continues_in_one_thread_after_the_main_thread_has_ended():
    assert run(WHEN_MAIN_ENDS) == "[(0, 2), (1, 2)]\n[(0, 1)]"


def test_a_fit_continues_in_one_thread_where_no_other_can_be_started(monkeypatch):
    monkeypatch.setattr(threads, "n_threads", lambda: 3)
    start, started, refused = threading.Thread.start, [], threading.Event()

    def refuse_the_second(thread):
        started.append(thread)
        if len(started) == 2:
            refused.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_the_second)
    shares = []

    def task(*share):
        shares.append(share)
        assert refused.wait(20)

    with ThreadTeam() as team:
        for _ in range(2):
            team.run(task, LONG)
    assert our_threads() == []
    assert shares.count((0, 1)) == 2
    assert len(started) == 2


def test_a_team_can_be_used_again_after_an_exception(monkeypatch):
    monkeypatch.setattr(threads, "n_threads", lambda: 2)

    def fail(first, step):
        raise ZeroDivisionError

    shares = []
    with ThreadTeam() as team:
        with pytest.raises(ZeroDivisionError):
            team.run(fail, LONG)
        team.run(lambda *share: shares.append(share), LONG)
    assert sorted(shares) == [(0, 2), (1, 2)]


# BLAS ------------------------------------------------------------------------------------


def blas_threads():
    return {
        library["filepath"]: library["num_threads"]
        for library in threadpool_info()
        if library["user_api"] == "blas"
    }


@pytest.fixture
def three_blas_threads():
    """Set BLAS to three threads, a number used nowhere else."""
    with threadpool_limits(3, user_api="blas"):
        before = blas_threads()
        if set(before.values()) != {3}:
            pytest.skip("the number of threads of this BLAS cannot be set")
        yield before
        assert blas_threads() == before


def assert_single():
    assert set(blas_threads().values()) == {1}


def test_blas_is_limited_to_one_thread_and_restored(three_blas_threads):
    with single_threaded_blas():
        assert_single()
    assert blas_threads() == three_blas_threads


def test_nested_limits_of_blas_are_restored_by_the_outermost(three_blas_threads):
    with single_threaded_blas():
        with single_threaded_blas():
            assert_single()
        assert_single()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_any_exception_restores_the_threads_of_blas(three_blas_threads, error):
    def fail():
        with single_threaded_blas():
            assert_single()
            raise error

    with pytest.raises(error):
        fail()


def test_a_thread_limits_blas_also_where_another_has_limited_it_before(three_blas_threads):
    # As long as the first thread to set a limit exists, threadpoolctl 3.7 and later ignore
    # limits set by other threads. Here, as after any fit in the main thread, the first is the
    # main thread.
    def visit():
        with single_threaded_blas():
            return blas_threads()

    with single_threaded_blas():
        pass
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(visit).result(10)
    assert set(found.values()) == {1}


OVERLAP = """
import threading
from concurrent.futures import ThreadPoolExecutor
import numpy, scipy.linalg
from threadpoolctl import threadpool_info, threadpool_limits
from skrobust._engines.threads import single_threaded_blas
def counts():
    return sorted({{l["num_threads"] for l in threadpool_info() if l["user_api"] == "blas"}})
entered, leave = [threading.Event() for _ in "AB"], [threading.Event() for _ in "AB"]
def hold(i):
    try:
        with single_threaded_blas():
            entered[i].set()
            leave[i].wait(20)
            if {fails}:
                raise ValueError
    except ValueError:
        pass
before = counts()
a, b = (ThreadPoolExecutor(1) for _ in "AB")
def enter(i, pool):
    future = pool.submit(hold, i)
    entered[i].wait(20)
    return future
first = enter(0, a)
second = enter(1, b)
overlap = counts()
leave[0].set()
first.result(20)
alone = counts()
leave[1].set()
second.result(20)
print(overlap, alone, before == counts())
"""


@pytest.mark.parametrize("fails", [False, True])
def test_overlapping_limits_of_running_threads_are_restored_by_the_last(fails):
    # Thread A and then thread B limit BLAS. A removes its limit before B does, either normally
    # or because of an error. Both threads run until the program ends.
    environment = {"OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    assert run(OVERLAP.format(fails=fails), **environment) == "[1] [1] True"


def test_blas_is_restored_after_limits_of_many_threads(three_blas_threads):
    rng, wrong = np.random.default_rng(0), []

    def visit(pauses):
        for pause in pauses:
            with single_threaded_blas():
                time.sleep(pause)
                if set(blas_threads().values()) != {1}:
                    wrong.append(pause)

    pauses = rng.uniform(0, 2e-3, size=(8, 10))
    workers = [threading.Thread(target=visit, args=(row,)) for row in pauses]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert not wrong
    assert blas_threads() == three_blas_threads


def test_a_limit_that_is_set_between_two_fits_is_restored_by_the_second(three_blas_threads):
    with single_threaded_blas():
        pass
    with threadpool_limits(2, user_api="blas"):
        with single_threaded_blas():
            assert_single()
        assert set(blas_threads().values()) == {2}


@pytest.mark.parametrize("bad", [False, True])
def test_a_fit_restores_blas_also_where_it_fails(three_blas_threads, bad):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(50, 3)), rng.normal(size=50)
    if bad:
        X[3, 1] = np.nan
        with pytest.raises(ValueError, match="NaN"):
            SmoothL1Regressor().fit(X, y)
    else:
        SmoothL1Regressor().fit(X, y)
    assert blas_threads() == three_blas_threads
    assert len(threads._active_fits) == 0


FORK = """
import multiprocessing, threading
import numpy, scipy.linalg
from threadpoolctl import threadpool_info, threadpool_limits
from skrobust._engines.threads import single_threaded_blas
def counts(_=None):
    return sorted({l["num_threads"] for l in threadpool_info() if l["user_api"] == "blas"})
def child(_):
    before = counts()
    with single_threaded_blas():
        during = counts()
    return before, during, counts()
threadpool_limits(2, user_api="blas")
inside, leave = threading.Event(), threading.Event()
def hold():
    with single_threaded_blas():
        inside.set()
        leave.wait(30)
thread = threading.Thread(target=hold)
thread.start()
inside.wait(30)
with multiprocessing.get_context("fork").Pool(1) as pool:
    print(pool.map_async(child, [0]).get(30)[0])
leave.set()
thread.join()
print(counts())
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
def test_a_child_forked_during_a_fit_of_a_thread_has_blas_as_it_was_before():
    flags = ["-W", "ignore::DeprecationWarning"]  # Python warns of forks while threads run
    lines = run(FORK, *flags).split("\n")
    assert lines == [str(([2], [1], [2])), "[2]"]


def test_fits_of_several_threads_restore_blas_and_leave_no_thread(three_blas_threads):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(3000, 40)), rng.normal(size=3000)
    fit = functools.partial(SmoothL1Regressor(beta=1.0).fit, X, y)
    workers = [threading.Thread(target=fit) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert blas_threads() == three_blas_threads
    assert our_threads() == []


AFTER_MAIN = """
import threading, time
import numpy as np
from skrobust import SmoothL1Regressor
from skrobust._engines import threads
threads.n_threads = lambda: 2
X = np.random.default_rng(0).normal(size=(4000, 30))
def later():
    threading.main_thread().join()
    est = SmoothL1Regressor(beta=1.0).fit(X, X.sum(axis=1))
    print(est.coef_.round(6).min(), est.coef_.round(6).max())
threading.Thread(target=later).start()
"""


def test_a_thread_that_outlives_the_main_thread_can_fit():
    # Executors cannot start threads after the main thread has ended.
    assert run(AFTER_MAIN) == "1.0 1.0"

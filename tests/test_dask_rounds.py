"""The guard against lost workers; stubs replace the client, the rounds and the clock."""

from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for_futures

import numpy as np
import pytest
from scipy import sparse

from skrobust._engines import rounds
from skrobust._engines.rounds import Guard, LostWorkersError
from skrobust._engines.vectors import aligned

TIMEOUT, MAX_RECOVERIES = 60.0, 3


class KilledError(Exception):
    """The exception that the stub raises for a lost worker."""


class Cluster:
    """A stub for a client, a round and a clock; the workers change at given times.

    `workers` maps a time in seconds to the workers that exist from then on, as a string with
    one letter per worker, or to an exception that is raised from then on when the workers are
    requested. The round ends at time `ends` with `result`, which may be an exception.
    """

    def __init__(self, workers, ends=np.inf, result="result"):
        self.now, self.status = 0.0, "running"
        self.events, self.ends, self.outcome = workers, ends, result
        self.pending = Future()

    def nthreads(self):
        current = self.events[max(second for second in self.events if second <= self.now)]
        if isinstance(current, Exception):
            raise current
        return dict.fromkeys(current, 1)

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def wait(self, futures, seconds):
        assert seconds <= 1
        self.now = min(self.now + seconds, max(self.ends, self.now))
        if self.now >= self.ends and not self.pending.done():
            if isinstance(self.outcome, BaseException):
                self.pending.set_exception(self.outcome)
            else:
                self.pending.set_result(self.outcome)
        return wait_for_futures(futures, 0)


@pytest.fixture
def guarded(monkeypatch):
    """Return a function that creates a stub cluster and its guard."""

    def make(workers, ends=np.inf, result="result"):
        cluster = Cluster(workers, ends, result)
        monkeypatch.setattr(rounds, "time", cluster)
        monkeypatch.setattr(rounds, "wait", cluster.wait)
        return cluster, Guard(cluster, (KilledError, CancelledError), TIMEOUT, MAX_RECOVERIES)

    return make


def test_result_is_returned_when_the_round_ends(guarded):
    cluster, guard = guarded({0: "ab"}, ends=0.3)
    assert guard.result(cluster.pending, guard.workers()) == "result"
    assert cluster.now == 0.3


def test_slow_round_is_not_an_error_as_long_as_no_worker_leaves(guarded):
    hours = 5 * 3600.0
    cluster, guard = guarded({0: "ab"}, ends=hours)
    assert guard.result(cluster.pending, guard.workers()) == "result"
    assert cluster.now == hours


def test_round_may_end_in_time_after_a_worker_has_left(guarded):
    cluster, guard = guarded({0: "ab", 100: "a"}, ends=100 + TIMEOUT)
    assert guard.result(cluster.pending, guard.workers()) == "result"


@pytest.mark.parametrize("later", [{}, {101.5: "ac"}, {150.5: "acd"}])
def test_round_that_does_not_end_in_time_after_a_worker_has_left_is_lost(guarded, later):
    cluster, guard = guarded({0: "ab", 100: "a", **later})
    with pytest.raises(LostWorkersError, match="after a worker had left"):
        guard.result(cluster.pending, guard.workers())
    assert 100 + TIMEOUT <= cluster.now <= 102 + TIMEOUT


def test_worker_that_joins_during_a_round_and_leaves_counts_as_one_that_left(guarded):
    cluster, guard = guarded({0: "a", 10: "ab", 20: "a"})
    with pytest.raises(LostWorkersError):
        guard.result(cluster.pending, guard.workers())
    assert 20 + TIMEOUT <= cluster.now <= 22 + TIMEOUT


def test_worker_that_comes_back_with_its_address_is_no_loss(guarded):
    cluster, guard = guarded({0: "ab", 100: "a", 110: "ab"}, ends=300)
    assert guard.result(cluster.pending, guard.workers()) == "result"


def test_workers_of_earlier_rounds_do_not_count(guarded):
    cluster, guard = guarded({0: "ab", 1: "a"}, ends=0.5)
    assert guard.result(cluster.pending, guard.workers()) == "result"
    cluster.now, cluster.pending, cluster.ends = 1.0, Future(), 300
    assert guard.result(cluster.pending, guard.workers()) == "result"


def test_round_without_any_worker_waits_for_one(guarded):
    cluster, guard = guarded({0: "", TIMEOUT - 5: "a"}, ends=300)
    assert guard.result(cluster.pending, guard.workers()) == "result"


@pytest.mark.parametrize("first", ["", "ab"])
def test_round_without_any_worker_in_time_ends_the_fit(guarded, first):
    cluster, guard = guarded({0: first, 5: ""})
    with pytest.raises(RuntimeError, match="no worker for 60 seconds") as caught:
        guard.result(cluster.pending, guard.workers())
    assert f"Workers lost during the fit: {len(first)} of {len(first)}" in str(caught.value)
    assert "workers left: 0" in str(caught.value)
    assert cluster.now <= 7 + TIMEOUT


@pytest.mark.parametrize("error", [KilledError("killed 4 times"), CancelledError("cancelled")])
def test_exception_that_means_a_lost_worker_is_a_loss(guarded, error):
    cluster, guard = guarded({0: "ab"}, ends=2, result=error)
    with pytest.raises(LostWorkersError, match=str(error)) as caught:
        guard.result(cluster.pending, guard.workers())
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error", [ValueError("in a block"), TimeoutError("in a block"), OSError("in a block")]
)
def test_exception_of_a_task_is_raised_unchanged(guarded, error):
    cluster, guard = guarded({0: "ab", 1: "a"}, ends=2, result=error)
    with pytest.raises(type(error)) as caught:
        guard.result(cluster.pending, guard.workers())
    assert caught.value is error
    assert error.__cause__ is None
    assert cluster.now == 2


def test_interruption_of_the_wait_is_raised_unchanged(guarded, monkeypatch):
    cluster, guard = guarded({0: "ab"})

    def interrupted(futures, seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(rounds, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        guard.result(cluster.pending, guard.workers())


SCHEDULER_LOST = "connection to the Dask scheduler was lost"


@pytest.mark.parametrize("status", ["connecting", "closing", "closed"])
def test_lost_scheduler_ends_the_fit_at_once(guarded, status):
    cluster, guard = guarded({0: "ab"})
    cluster.status = status
    for wait in (guard.workers, guard.await_workers):
        with pytest.raises(RuntimeError, match=SCHEDULER_LOST):
            wait()
    assert cluster.now == 0
    with pytest.raises(RuntimeError, match=SCHEDULER_LOST):
        guard.result(cluster.pending, {"a", "b"})
    assert cluster.now == 1


def test_scheduler_that_does_not_answer_ends_the_fit(guarded):
    error = OSError("no route to host")
    cluster, guard = guarded({0: "ab", 100: error})
    with pytest.raises(RuntimeError, match=SCHEDULER_LOST) as caught:
        guard.result(cluster.pending, guard.workers())
    assert caught.value.__cause__ is error
    assert cluster.now == 100


def test_futures_that_are_cancelled_with_the_scheduler_are_no_loss_of_workers(guarded):
    cluster, guard = guarded({0: "ab", 2: OSError()}, ends=2, result=CancelledError())
    with pytest.raises(RuntimeError, match=SCHEDULER_LOST):
        guard.result(cluster.pending, guard.workers())


def test_await_workers_returns_when_one_is_there(guarded):
    cluster, guard = guarded({0: "a"})
    assert guard.await_workers() == {"a"}
    assert cluster.now == 0
    cluster, guard = guarded({0: "", 20: "a"})
    assert guard.await_workers() == {"a"}
    assert 20 <= cluster.now < 21


def test_await_workers_ends_the_fit_if_none_comes_in_time(guarded):
    cluster, guard = guarded({0: ""})
    with pytest.raises(RuntimeError, match=r"no worker for 60 seconds.*round-timeout=60"):
        guard.await_workers()
    assert TIMEOUT <= cluster.now <= TIMEOUT + 1


def test_fit_is_continued_after_a_few_losses_and_ends_after_more(guarded):
    cluster, guard = guarded({0: "ab", 1: "bc", 2: "c"})
    loss = LostWorkersError("the last loss")
    for cluster.now in (0.0, 1.0, 2.0):
        guard.await_workers()
        guard.count_loss(loss, without_recipe=False)
    with pytest.raises(RuntimeError) as caught:
        guard.count_loss(loss, without_recipe=False)
    assert caught.value.__cause__ is loss
    for part in (
        "number of interruptions (4)",
        "the last loss",
        "Workers lost during the fit: 2 of 3",
        "workers left: 1",
        "skrobust.max-recoveries=3",
    ):
        assert part in str(caught.value)


def test_loss_of_data_without_a_recipe_ends_the_fit_at_once(guarded):
    _, guard = guarded({0: "ab"})
    with pytest.raises(RuntimeError, match=r"(?s)the loss.*only scattered") as caught:
        guard.count_loss(LostWorkersError("the loss"), without_recipe=True)
    assert isinstance(caught.value.__cause__, LostWorkersError)


# Misaligned data, as after a transfer between workers --------------------------------------


def misaligned(array):
    """Return a copy of an array at an odd-numbered memory address."""
    buffer = np.frombuffer(bytearray(array.nbytes + 1), np.uint8)[1:].view(array.dtype)
    copy = np.lib.stride_tricks.as_strided(buffer, array.shape, array.strides)
    copy[...] = array
    return copy


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_at_odd_addresses_are_copied_in_their_layout(order):
    array = np.asarray(np.arange(12.0).reshape(4, 3), order=order)
    odd = misaligned(array)
    assert not odd.flags.aligned
    copy = aligned(odd)
    assert copy.flags.aligned
    assert copy.flags[f"{order}_CONTIGUOUS"]
    np.testing.assert_array_equal(copy, array)
    assert aligned(array) is array


@pytest.mark.parametrize("part", ["data", "indices", "indptr"])
def test_sparse_matrices_at_odd_addresses_are_copied(part):
    matrix = sparse.random_array((20, 5), density=0.4, format="csr", rng=0)
    assert aligned(matrix) is matrix
    dense = matrix.toarray()
    setattr(matrix, part, misaligned(getattr(matrix, part)))
    copy = aligned(matrix)
    assert getattr(copy, part).flags.aligned
    np.testing.assert_array_equal(copy.toarray(), dense)

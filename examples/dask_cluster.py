"""A fit on a cluster that loses a worker: python examples/dask_cluster.py

The two workers of a local cluster generate ten million rows in blocks, and a model is fitted to
these rows twice. During the second fit, a worker process is killed after the first of three
stages. Dask starts another worker and regenerates the lost blocks. The coefficients of the two
fits are bit-for-bit identical.

The script requires pip install ".[dask]" and scikit-learn 1.9, whose callbacks are used to show
progress and to kill the worker. With ten million rows the script needs a few GB of memory and
takes a few minutes. The option `--rows` sets the number of rows.
"""

import argparse
import logging
import os
import signal
import time

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from sklearn.callback import ProgressBar

from skrobust import SmoothL1Regressor

N_FEATURES, N_BLOCKS = 10, 10
# Thresholds of the three stages, as multiples of the threshold of the last stage.
SCHEDULE = [4, 2, 1]


class PrintStages:
    """A callback that prints a line after each stage, for use without a progress bar."""

    def setup(self, estimator, context):
        self._start = time.perf_counter()

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.parent is not None:
            seconds = time.perf_counter() - self._start
            print(f"   stage {context.task_id + 1} of {len(SCHEDULE)} after {seconds:.1f} s")

    def teardown(self, estimator, context):
        pass


class KillWorker:
    """A callback that kills a worker process after the first stage of a fit."""

    def __init__(self, client):
        self._process = next(iter(client.run(os.getpid).values()))

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if self._process is not None:
            print(f"   killing the worker process {self._process}")
            os.kill(self._process, signal.SIGKILL)
            self._process = None

    def teardown(self, estimator, context):
        pass


def make_rows(n):
    """Return X and y as Dask arrays of n rows; one target in twenty is wrong."""
    rng = da.random.default_rng(0)
    chunk = -(-n // N_BLOCKS)
    X = rng.standard_normal((n, N_FEATURES), chunks=(chunk, N_FEATURES))
    noise = rng.standard_normal(n, chunks=chunk)
    is_wrong = rng.random(n, chunks=chunk) < 0.05
    return X, X @ np.arange(1.0, N_FEATURES + 1) + noise + da.where(is_wrong, 100.0, 0.0)


def progress():
    """Return a callback that shows the progress of a fit."""
    try:
        return ProgressBar()
    except ImportError:  # the progress bar requires rich
        return PrintStages()


def fit(X, y, *callbacks):
    """Return a fitted model; print the fit time and how often the blocks were processed."""
    model = SmoothL1Regressor(beta_schedule=SCHEDULE).set_callbacks(progress(), *callbacks)
    start = time.perf_counter()
    model.fit(X, y)
    rounds = sum(stage["n_rounds"] for stage in model.history_)
    print(f"   {time.perf_counter() - start:.1f} s, {rounds} rounds over the blocks")
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000, help="number of rows")
    n = parser.parse_args().rows
    X, y = make_rows(n)
    # Without `silence_logs` the scheduler would log that the worker and its results are lost.
    options = {"dashboard_address": None, "silence_logs": logging.CRITICAL}
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster,
        Client(cluster) as client,
    ):
        print(f"{n:,} rows in {X.numblocks[0]} blocks, {X.nbytes / 2**30:.2f} GiB")
        # Without `persist` each of the two fits would generate the blocks again.
        X, y = dask.persist(X, y)

        print("\nUndisturbed:")
        undisturbed = fit(X, y)
        print("\nWith a worker that is killed after the first stage:")
        disturbed = fit(X, y, KillWorker(client))

        same = np.array_equal(disturbed.coef_, undisturbed.coef_)
        same = same and disturbed.intercept_ == undisturbed.intercept_
        print(f"\ncoef_       {disturbed.coef_.round(3)}")
        print(f"same bits   {'yes' if same else 'NO'}")
        print(f"scale_      {disturbed.scale_:.4f}")
        print(f"outliers_   {disturbed.outliers_.mean().compute():.2%} of the rows")
    return 0 if same else 1


if __name__ == "__main__":
    raise SystemExit(main())

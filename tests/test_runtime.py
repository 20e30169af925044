"""Effects of a fit on threads, processes, signals, imports and memory.

Tests that need a fresh interpreter start one to run a program, which may import
tests/programs.py. No test limits run times, which benchmarks/cold_start.py measures; timeouts
serve only to end deadlocks, which would otherwise block the suite.
"""

import multiprocessing
import shutil
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import skrobust
from programs import (
    CASES,
    LAYOUTS,
    PREAMBLE,
    SAME_KERNELS,
    data,
    digest,
    fitted,
    heavy_tailed,
    run,
)
from skrobust import SmoothL1Regressor
from skrobust._engines import threads

FORK = "fork" in multiprocessing.get_all_start_methods()


# Bit-for-bit identical results -----------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("shape", "layout", "options"), CASES)
def test_bits_do_not_depend_on_the_number_of_threads(
    monkeypatch, shape, layout, options, weighted
):
    X, y = data(shape, layout)
    weight = np.random.default_rng(1).uniform(0.5, 1, size=y.size) if weighted else None
    sizes, asked, found = [1, 3] if weighted else [1, 2, 5], [], []
    monkeypatch.setattr(threads, "MIN_ELEMENTS_PER_EXTRA_THREAD", 0)
    for size in sizes:
        monkeypatch.setattr(threads, "n_threads", lambda size=size: asked.append(size) or size)
        found.append(digest(SmoothL1Regressor(**options).fit(X, y, weight)))
    assert asked == sizes
    assert found == [found[0]] * len(sizes)


ENVIRONMENT = """
for shape, layout, options in programs.CASES[:3]:
    print(programs.fitted(*programs.data(shape, layout), **options))
"""


@pytest.mark.slow
def test_bits_do_not_depend_on_the_threads_that_the_environment_allows():
    def bits(number):
        limits = {"OMP_NUM_THREADS": number, "OPENBLAS_NUM_THREADS": number}
        return run(PREAMBLE + ENVIRONMENT, **limits)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(bits, ["1", "2", "4"]))
    assert len(found[0].split()) == 3
    assert found == [found[0]] * 3


EIGHT_AT_ONCE = """
import collections, concurrent.futures, threading
from skrobust._engines import kernels

compiled, jit = collections.Counter(), kernels._jit
def counting(function, *arguments):
    constants = (cell.cell_contents for cell in function.__closure__ or ())
    # The functions that a kernel calls are made anew for each kernel, with the same names.
    names = tuple(getattr(value, "__name__", value) for value in constants)
    compiled[function.__name__, names, arguments] += 1
    return jit(function, *arguments)
kernels._jit = counting

whole, gram = programs.data("whole", "C"), programs.data("gram", "C")
def fits(barrier=None):
    if barrier:
        barrier.wait(120)
    small = [programs.fitted(whole[0][:200, :5], whole[1][:200]) for _ in range(5)]
    return [*small, programs.fitted(*whole), programs.fitted(*gram, beta=1.0)]

def together(n):
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        found = list(pool.map(fits, [threading.Barrier(n)] * n))
        # The threads of the pool still exist here, and some limits of OpenBLAS belong to them.
        return found, programs.blas_threads()

before = programs.blas_threads()
if {main_first}:
    alone, (found, after) = fits(), together({n})
else:
    (found, after), alone = together({n}), fits()
print(found == [alone] * {n}, before == after, max(compiled.values()))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("n", "main_first"), [(8, False), (3, True)])
def test_threads_at_once_find_the_bits_of_one_and_leave_blas_as_it_was(n, main_first):
    # The threads also share the kernels, which are compiled only once. If each thread compiled
    # its own, it would wait for those of all others, since Numba compiles one kernel at a time.
    program = PREAMBLE + EIGHT_AT_ONCE.format(n=n, main_first=main_first)
    output = run(program, OPENBLAS_NUM_THREADS="2", OMP_NUM_THREADS="2")
    same_bits, blas_restored, compilations = output.split()
    assert same_bits == "True"
    assert blas_restored == "True"
    assert compilations == "1"


# Directories and processes ---------------------------------------------------------------

READ_ONLY = """
import sys
import numpy as np
import skrobust
from skrobust import SmoothL1Regressor
print(skrobust.__file__)
X = np.random.default_rng(0).normal(size=(300, 4))
print(SmoothL1Regressor().fit(X, X.sum(axis=1)).coef_.round(6).tolist())
"""


@pytest.mark.slow
def test_a_read_only_installation_without_home_or_cache_works(tmp_path):
    source, site = Path(skrobust.__file__).parent, tmp_path / "site"
    ignored = shutil.ignore_patterns("__pycache__")
    package = Path(shutil.copytree(source, site / "skrobust", ignore=ignored))
    work = tmp_path / "work"
    work.mkdir()
    places = [package, site, work]
    before = sorted(tmp_path.rglob("*"))
    for place in [*package.iterdir(), *places]:
        place.chmod(0o555 if place.is_dir() else 0o444)
    unset = dict.fromkeys(["NUMBA_CACHE_DIR", "XDG_CACHE_HOME"])
    try:
        output = run(READ_ONLY, "-B", cwd=work, PYTHONPATH=str(site), HOME="/nowhere", **unset)
    finally:
        for place in places:
            place.chmod(0o755)
    assert output.split("\n") == [str(package / "__init__.py"), str([1.0] * 4)]
    # Root can write to read-only directories, so the test checks only that nothing is written.
    assert sorted(tmp_path.rglob("*")) == before


BACKENDS = """
import warnings
import joblib
from skrobust import SmoothL1Regressor
from skrobust._engines.threads import n_threads

X, y = programs.data("whole", "C")
tasks = [(X, y), (X[:200], y[:200])] * 2

def work(X, y):
    est = SmoothL1Regressor(beta=1.0).fit(X, y)
    with joblib.parallel_config("threading", n_jobs=2):
        nested = joblib.Parallel()(joblib.delayed(n_threads)() for _ in range(2))
    bits = est.coef_.tobytes(), est.intercept_, est.scale_
    return bits, {n_threads(), *nested}, X.flags.writeable

def everywhere(backend):
    parallel = joblib.Parallel(2, backend=backend, max_nbytes=100_000)
    return parallel(joblib.delayed(work)(*task) for task in tasks)

found = {}
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # about a fork while threads exist
    # The first children fit before the parent does, the others use what it has compiled.
    found["before"] = everywhere("multiprocessing")
    alone = [work(*task)[0] for task in tasks]
    found["after"] = everywhere("multiprocessing")
for backend in ("threading", "loky"):
    found[backend] = everywhere(backend)
for name, results in found.items():
    bits, threads, writeable = zip(*results)
    print(name, list(bits) == alone, set().union(*threads), writeable[0])
"""


@pytest.mark.slow
def test_fits_before_and_after_a_fork_and_in_every_joblib_backend_agree():
    # Each worker uses one thread, and worker processes receive read-only memory maps.
    output = run(PREAMBLE + BACKENDS).split("\n")
    assert output == [
        "before True {1} False",
        "after True {1} False",
        "threading True {1} True",
        "loky True {1} False",
    ]


FORK_WITHIN = """
import multiprocessing, sys, threading, time, warnings
from skrobust import _units
from skrobust._engines import compile as compilation
warnings.simplefilter("ignore", DeprecationWarning)
context = multiprocessing.get_context("fork")
X, y = programs.data("whole", "C")
assert "numba" not in sys.modules
if {compiles}:
    compilation.kernels()

def child_fits():
    with context.Pool(1) as pool:
        return pool.starmap_async(programs.fitted, [(X, y)]).get(120)[0]

def compiling():
    free = compilation._compile_lock.acquire(blocking=False)
    if free:
        compilation._compile_lock.release()
    return not free

# A fork during a first fit, which imports Numba or compiles.
found = set()
thread = threading.Thread(target=lambda: found.add(programs.fitted(X, y)))
thread.start()
while not (compiling() if {compiles} else "numba" in sys.modules):
    time.sleep(1e-3)
found.add(child_fits())
thread.join()

# A fork during a fit that waits while it converts the units of y.
there, go_on = threading.Event(), threading.Event()
scaled = _units.TargetUnits._scaled
def waiting(self, y):
    if threading.current_thread() is thread:
        there.set()
        go_on.wait()
    return scaled(self, y)
_units.TargetUnits._scaled = waiting
thread = threading.Thread(target=lambda: found.add(programs.fitted(X, y)))
thread.start()
there.wait()
found.update((child_fits(), programs.fitted(X, y)))
go_on.set()
thread.join()

# Five forks while another thread fits again and again.
stop = threading.Event()
def keep_fitting():
    while not stop.is_set():
        found.add(programs.fitted(X, y))
thread = threading.Thread(target=keep_fitting, daemon=True)
thread.start()
for _ in range(5):
    time.sleep(0.02)
    found.add(child_fits())
stop.set()
thread.join()
print(len(found))
"""


@pytest.mark.slow
@pytest.mark.skipif(not FORK, reason="no fork here")
@pytest.mark.parametrize("compiles", [False, True])
def test_a_child_forked_within_a_first_fit_or_beside_other_fits_can_fit(compiles):
    # A fork blocks forever in OpenBLAS if another thread is using OpenBLAS threads.
    assert run(PREAMBLE + FORK_WITHIN.format(compiles=compiles)) == "1"


INTERRUPTED_FORK = """
import os, signal, threading, time, warnings
from skrobust._engines.compile import _compile_lock
warnings.simplefilter("ignore", DeprecationWarning)
there, sent = threading.Event(), threading.Event()
def make():
    with _compile_lock:
        there.set()
        sent.wait()
        time.sleep(0.5)
def send():
    os.kill(os.getpid(), signal.SIGINT)
    sent.set()
def interrupt():
    threading.Timer(0.5, send).start()
# The hook that was registered last runs first, before the hook that waits.
os.register_at_fork(before=interrupt)
def free():
    # Tell whether a thread other than the one that forked can acquire the lock.
    found = []
    other = threading.Thread(target=lambda: found.append(_compile_lock.acquire(timeout=60)))
    other.start()
    other.join()
    return found == [True]
threading.Thread(target=make).start()
there.wait()
child = os.fork()
if child == 0:
    os._exit(0 if free() else 1)
print(free(), os.waitpid(child, 0)[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not FORK, reason="no fork here")
def test_a_fork_that_is_interrupted_while_it_waits_leaves_no_lock_behind():
    assert run(INTERRUPTED_FORK) == "True 0"


INTERRUPTED_IMPORT = """
import os, signal, sys, threading, time
X, y = programs.heavy_tailed(10_000, 4)
def interrupt():
    while "llvmlite" not in sys.modules:  # which Numba imports
        time.sleep(1e-3)
    os.kill(os.getpid(), signal.SIGINT)
thread = threading.Thread(target=interrupt)
thread.start()
for _ in range(2):
    try:
        print(bool(programs.fitted(X, y)))
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.slow
def test_an_interrupt_of_the_first_fit_leaves_numba_importable():
    assert run(PREAMBLE + INTERRUPTED_IMPORT) == "interrupted\nTrue"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_memory_map_is_fitted_in_place_with_the_same_bits(
    tmp_path, monkeypatch, order, dtype
):
    X, y = heavy_tailed(20_000, 30)
    X = np.asarray(X, dtype=dtype, order=order)
    np.save(tmp_path / "X.npy", X)
    stored = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert stored.flags.f_contiguous == (order == "F")
    assert not stored.flags.writeable
    seen, make = [], skrobust._training_data.as_engine
    monkeypatch.setattr(
        skrobust._training_data, "as_engine", lambda X, team: seen.append(X) or make(X, team)
    )
    assert fitted(stored, y) == fitted(X, y)
    assert np.shares_memory(seen[0], stored)


INTERRUPTED_PROGRAMME = """
import os, signal, threading, time
import numpy as np
from skrobust import SmoothL1Regressor, smooth_l1_path
from skrobust._engines.compile import kernels

rng = np.random.default_rng(0)
X = rng.normal(size=(1_000, 10_000))
X[:, 1:] += 0.5 * X[:, :-1]
y = X[:, :50].sum(axis=1) + rng.normal(size=1_000)
y[::10] += 50
options = {"beta": 1.345, "loss": "huber", "l1_ratio": 1.0}
largest = smooth_l1_path(X, y, alphas=1, **options).grid[0]

# Count the calls of the compiled coordinate descent, during which no signal is handled.
begun, compiled = [], kernels().coordinate_descent()
def counted(*args):
    begun.append(None)
    return compiled(*args)
kernels().coordinate_descent = lambda: counted

def interrupt(sent):
    while not begun:
        time.sleep(1e-3)
    sent.append(len(begun))
    os.kill(os.getpid(), signal.SIGINT)

for delay in [0.0, 0.5, 2.0]:
    begun.clear()
    sent = []
    timer = threading.Timer(delay, interrupt, (sent,))
    timer.start()
    try:
        SmoothL1Regressor(alpha=0.01 * largest, **options).fit(X, y)
        print("not interrupted")
    except KeyboardInterrupt:
        more = len(begun) - sent[0]
        print("at once" if more <= 1 else f"after {more} calls")
    timer.join()
"""


@pytest.mark.slow
def test_the_quadratic_programme_ends_after_an_interrupt():
    assert run(PREAMBLE + INTERRUPTED_PROGRAMME).split("\n") == ["at once"] * 3


INTERRUPT = """
import os, signal, threading
import numpy as np
from skrobust import SmoothL1Regressor
from skrobust._engines import threads
from skrobust._engines.dense import DenseEngine

X, y = programs.heavy_tailed(60_000, 40)
before = programs.blas_threads()
some = X[:, :3].copy()
old = SmoothL1Regressor(beta=1.0).fit(some, y)
# The kernels are compiled first. An interrupt is lost while LLVM calls back into Python.
SmoothL1Regressor().fit(X, y)
kept = {name: value for name, value in vars(old).items() if name.endswith("_")}
new = SmoothL1Regressor()
long = {"beta_schedule": np.geomspace(1e4, 1, 500), "tol": 0.0, "beta": 1.0}
for est in (new, old):
    est.set_params(**long)

passes, loss_gradient = [], DenseEngine.loss_gradient
def counted(*args, **kwargs):
    passes.append(args)
    return loss_gradient(*args, **kwargs)
DenseEngine.loss_gradient = counted

def interrupt(sent):
    sent.append(len(passes))
    os.kill(os.getpid(), signal.SIGINT)

for est, delay in [(new, 0.02), (old, 0.1), (new, 0.25), (old, 0.4)]:
    sent = []
    timer = threading.Timer(delay, interrupt, (sent,))
    timer.start()
    try:
        est.fit(X, y)
        print("not interrupted")
    except KeyboardInterrupt:
        # One pass may begin between the count and the signal.
        begun = len(passes) - sent[0]
        print("at once" if begun <= 1 else f"after {begun} passes")
    timer.join()
DenseEngine.loss_gradient = loss_gradient
print(sorted(name for name in vars(new) if name.endswith("_")))
print(sorted(n for n, value in kept.items() if vars(old).get(n) is not value))
print(before == programs.blas_threads(), len(threads._active_fits))
print([t.name for t in threading.enumerate() if t.name.startswith("skrobust")])
fresh = SmoothL1Regressor(beta=1.0)
print(programs.digest(fresh.fit(some, y)) == programs.digest(old))
"""


@pytest.fixture(scope="module")
def interrupted():
    return run(PREAMBLE + INTERRUPT).split("\n")


@pytest.mark.slow
def test_no_further_pass_over_the_data_begins_after_an_interrupt(interrupted):
    assert interrupted[:4] == ["at once"] * 4


@pytest.mark.slow
def test_an_interrupted_fit_leaves_no_attributes(interrupted):
    assert interrupted[4] == "[]"


@pytest.mark.slow
def test_an_interrupted_refit_leaves_the_old_model_unchanged(interrupted):
    assert interrupted[5] == "[]"


@pytest.mark.slow
def test_an_interrupted_fit_gives_back_blas_and_threads_and_the_next_one_works(interrupted):
    assert interrupted[6:] == ["True 0", "[]", "True"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_refit_that_fails_leaves_the_old_model_unchanged(bad):
    pd = pytest.importorskip("pandas")
    X, y = heavy_tailed(60, 3)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    est = SmoothL1Regressor().fit(frame, y)
    prediction = est.predict(frame)
    wider = pd.DataFrame(np.column_stack([X, X]), columns=list("uvwxyz"))
    wider.iloc[7, 5] = bad
    with pytest.raises(ValueError, match="contains"):
        est.fit(wider, y)
    assert est.n_features_in_ == 3
    assert_array_equal(est.predict(frame), prediction)


# Import and first fit --------------------------------------------------------------------

FIRST_FIT = (
    """
import sys
import sklearn.linear_model
before = set(sys.modules)
import skrobust
packages = {name.partition(".")[0] for name in set(sys.modules) - before}
print(packages - sys.stdlib_module_names)
print([name for name in ("numba", "llvmlite", "matplotlib", "torch") if name in sys.modules])
assert "skrobust.displays" not in sys.modules
assert "displays" in dir(skrobust)
skrobust.displays.ResidualsDisplay(y_true=[1.0], y_pred=[1.0], beta=1)
assert "matplotlib" not in sys.modules
# A fit of few elements compiles nothing.
import numpy as np
X = np.random.default_rng(0).normal(size=(200, 5))
skrobust.SmoothL1Regressor().fit(X, X.sum(axis=1))
skrobust.SmoothL1RegressorCV(betas=3).fit(X, X.sum(axis=1))
assert "numba" not in sys.modules
try:
    skrobust.display
except AttributeError as error:
    print(error)
"""
    + PREAMBLE
    + """
from numba.core import event

def compiled(X, y, **options):
    # Return the functions of the package that a fit compiles. Numba reports each compilation.
    with event.install_recorder("numba:compile") as recorder:
        skrobust.SmoothL1Regressor(**options).fit(X, y)
    functions = [e.data["dispatcher"].py_func for _, e in recorder.buffer if e.is_start]
    return [f.__name__ for f in functions if f.__module__.startswith("skrobust.")]

X, y = programs.heavy_tailed(2_000, 20)
first = compiled(X, y)
print(len(first), len(set(first)))
for options in programs.SAME_KERNELS:
    print(compiled(X, y, **options))
large, y = programs.data("tall", "C")
large.flags.writeable = False
print(compiled(large, y))
"""
)


@pytest.fixture(scope="module")
def first_fit():
    return run(FIRST_FIT).split("\n")


@pytest.mark.slow
def test_import_brings_nothing_beyond_scikit_learns_linear_models(first_fit):
    # Neither Numba nor Matplotlib is imported; their imports would take most of the time.
    assert first_fit[:2] == ["{'skrobust'}", "[]"]


@pytest.mark.slow
def test_displays_are_imported_on_first_use_and_matplotlib_to_draw(first_fit):
    # Accessing a nonexistent attribute raises an AttributeError.
    assert first_fit[2] == "module 'skrobust' has no attribute 'display'"


@pytest.mark.slow
def test_a_first_fit_compiles_four_functions_and_fits_of_other_modes_none(first_fit):
    # The four functions are the pass over the rows and the functions that it calls: terms of a
    # row, loss and prefetch.
    assert first_fit[3:] == ["4 4"] + ["[]"] * (len(SAME_KERNELS) + 1)


# Inputs and global state -----------------------------------------------------------------


@pytest.mark.parametrize("n", [100, 60_000])
def test_numpys_random_state_is_neither_read_nor_moved(n):
    X, y = heavy_tailed(n, 40)
    found = []
    for seed in (0, 1):
        np.random.seed(seed)  # noqa: NPY002
        before = np.random.get_state()  # noqa: NPY002
        found.append(fitted(X, y, beta=1.0))
        for a, b in zip(before, np.random.get_state(), strict=True):  # noqa: NPY002
            assert_array_equal(a, b)
    assert found[0] == found[1]


@pytest.mark.parametrize("shape", ["tall", "whole"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_data_are_not_written_to(shape, layout):
    X, y = data(shape, layout)
    weight = np.random.default_rng(0).integers(0, 3, size=y.size).astype(float)
    kept = X.copy(), y.copy(), weight.copy()
    SmoothL1Regressor().fit(X, y, weight)
    assert (kept[0] != X).sum() == 0
    assert_array_equal(y, kept[1])
    assert_array_equal(weight, kept[2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "options"), [("C", {}), ("F", {"beta": 1.0}), ("C", {"beta": 1e-4})]
)
def test_memory_beyond_the_input_is_a_small_part_of_it(layout, options):
    X, y = heavy_tailed(200_000, 50)
    X, est = LAYOUTS[layout](X), SmoothL1Regressor(**options)
    est.fit(X, y)  # compiles the kernels
    tracemalloc.start()
    est.fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.15 * X.nbytes

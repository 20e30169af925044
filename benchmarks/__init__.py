"""Benchmarks and simulations that produce the numbers in the documentation.

`python -m benchmarks.NAME` runs one of them.
"""

import datetime
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
# The Okabe-Ito palette, which readers with colour vision deficiency can distinguish, in an
# order that starts with the darkest colours.
COLOURS = ["#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
_LIBRARIES = ["skrobust", "numpy", "scipy", "scikit-learn", "numba"]
_LIBRARIES += ["statsmodels", "skglm", "pinball-qr"]


def timed(function, *args):
    """Return the result of a function and its run time in seconds."""
    start = time.perf_counter()
    result = function(*args)
    return result, time.perf_counter() - start


def _rested(task):
    """Wait until the other threads of this process are idle, run a task, and return its time.

    BLAS threads remain busy for a tenth of a second after their last computation and would slow
    down the task. The function waits in a busy loop, because the processor might reduce its
    frequency during a sleep.
    """
    busy = True
    while busy:
        start, used = time.perf_counter(), time.process_time()
        while time.perf_counter() < start + 0.005:
            pass
        busy = time.process_time() - used > 1.2 * (time.perf_counter() - start)
    return timed(task)[1]


def say(text):
    """Print text without a line break and flush the output."""
    print(text, end="", flush=True)


def in_turn(tasks, seconds, least=5, most=51, long=5.0):
    """Run several tasks in turn; return a dict of their run times in seconds.

    The runs of the tasks alternate, so that a temporary load on the machine affects all tasks.
    Each task is run as many times as fit into `seconds`, but at least `least` and at most
    `most` times. A task that takes longer than `long` seconds is run only once.
    """
    times = {name: [_rested(task)] for name, task in tasks.items()}
    for name, task in tasks.items():
        if times[name][0] < long and least > 1:
            times[name].append(_rested(task))  # the first run may be slower than the others
    more = {
        name: min(most, max(least, int(seconds / min(found)))) - len(found)
        for name, found in times.items()
        if min(found) < long
    }
    rounds = max(more.values(), default=0)
    for k in range(rounds):
        for name, n in more.items():
            if (k + 1) * n // rounds > k * n // rounds:
                times[name].append(_rested(tasks[name]))
    return times


class Progress:
    """A progress bar on standard error or, without a terminal, one line of text per step."""

    def __init__(self, total):
        self._total, self._done, self._start = total, -1, time.perf_counter()
        self._text = ""

    def __call__(self, text):
        """Show that the next step of the benchmark starts."""
        self._done, self._text = self._done + 1, text
        self._draw(text, "\n")

    def detail(self, text):
        """Show, in a terminal only, which part of the step is running."""
        if sys.stderr.isatty():
            self._draw(f"{self._text}: {text}", "")

    def end(self):
        self("done")
        print(file=sys.stderr)

    def _draw(self, text, end):
        share = round(20 * self._done / self._total)
        seconds = time.perf_counter() - self._start
        line = (
            f"{'━' * share}{'┈' * (20 - share)} {self._done:2}/{self._total} {seconds:4.0f} s"
        )
        start, end = ("\r\x1b[K", "") if sys.stderr.isatty() else ("", end)
        print(f"{start}{line}  {text}", end=end, file=sys.stderr, flush=True)


def machine():
    """Return a dict of facts about a run: date, processor, load and software versions."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        **{name: _version(name) for name in _LIBRARIES if _version(name)},
    }


def described(facts):
    """Return the result of `machine` as a sentence for a Markdown file."""
    facts = dict(facts)
    cores, processor = facts.pop("cores"), facts.pop("processor")
    date, load = facts.pop("date"), facts.pop("load before")
    versions = ", ".join(f"{name} {version}" for name, version in facts.items())
    return f"{date}; {cores} cores ({processor}), load {load} before the start; {versions}."


def table(header, rows):
    """Return a Markdown table; all columns except the first are right-aligned."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in cells
    ]
    rule = "|".join(["-" * (widths[0] + 2), *("-" * (w + 1) + ":" for w in widths[1:])])
    return "\n".join([f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])])


def write(directory, name, text):
    """Write a results file and print its name."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(text.rstrip() + "\n", encoding="utf-8")
    print(f"wrote {name}")


def in_seconds(seconds):
    """Format a duration with three significant digits, in milliseconds or seconds."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.3g} s"


def _version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

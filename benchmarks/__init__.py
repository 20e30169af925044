"""Benchmarks and simulations behind the numbers in the documents: python -m benchmarks.NAME"""

import time


def timed(function, *args):
    """What the function returns, and the seconds that it took."""
    start = time.perf_counter()
    result = function(*args)
    return result, time.perf_counter() - start


def say(text):
    """Print without a line break, at once."""
    print(text, end="", flush=True)

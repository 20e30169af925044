"""Check the distributions: python .ci/check_package.py DIST WHEEL_FROM_CHECKOUT

The source distribution must contain the files of the repository and no others. The wheel built
from the source distribution must equal the wheel built from the checkout, and must contain
nothing but the package, its metadata and the licence.
"""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path


def only(folder, pattern):
    """Return the only file of the folder that matches the pattern."""
    (path,) = Path(folder).glob(pattern)
    return path


def tracked_files():
    """Return the files of the repository, including those that are not committed yet."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return {name for name in names.split("\0") if name and Path(name).is_file()}


def contents(wheel):
    """Return the contents of the files of a wheel, by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def faults(dist, from_checkout):
    with tarfile.open(only(dist, "*.tar.gz")) as archive:
        # The first part of each path is the name of the distribution.
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    expected = tracked_files()
    yield from (f"the sdist lacks {name}" for name in sorted(expected - in_sdist))
    yield from (f"the sdist has {name}" for name in sorted(in_sdist - expected - {"PKG-INFO"}))

    wheel = contents(only(dist, "*.whl"))
    if wheel != contents(only(from_checkout, "*.whl")):
        yield "the wheels of the sdist and of the checkout differ"
    package = {name for name in expected if name.startswith("skrobust/")}
    in_package = {name for name in wheel if ".dist-info/" not in name}
    yield from (f"the wheel lacks {name}" for name in sorted(package - in_package))
    yield from (f"the wheel has {name}" for name in sorted(in_package - package))
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel):
        yield "the wheel has no licence"


if __name__ == "__main__":
    found = list(faults(*sys.argv[1:]))
    print(*found or ["sdist and wheel: no faults"], sep="\n")
    sys.exit(bool(found))

"""Within the package, modules import only from lower layers and at the top of the file.

Imports are read from the source without running it. Importing a module also imports the
packages that contain it; these implicit imports are not counted.
"""

import ast
from pathlib import Path
from typing import NamedTuple

import pytest

import skrobust

ROOT = Path(skrobust.__file__).parent
# All modules from top to bottom; each imports only modules further down. The name of a package
# stands for its `__init__` module, and "" for skrobust/__init__.py.
LAYERS = [
    # Modules that users import.
    "",
    "displays",
    "displays._coefficients",
    "displays._convergence",
    "displays._cv",
    "displays._diagnostics",
    "displays._fit",
    "displays._influence",
    "displays._outlier_map",
    "displays._path",
    "displays._qq",
    "displays._residuals",
    "displays._scale_location",
    "displays._weights",
    "displays._rows",
    "displays._statsmodels",
    "displays._smooth",
    "displays._drawing",
    "inference",
    "_observation_table",
    "_coefficient_table",
    "_fitted_data",
    "_bootstrap",
    "_covariance",
    "_linearised_mm",
    "_linearised",
    "_unwrap",
    "metrics",
    # Estimators.
    "_cv",
    "_duality_gap",
    "_path",
    "_regressor",
    "_dask_data",
    "_training_data",
    "_grid",
    "_mm",
    "_mm_fit",
    "_starts",
    "_robust_distance",
    "_half_sets",
    "_base",
    "_callbacks",
    "_validation",
    "_attributes",
    # The fit of one target, from the starting point to the result.
    "_fit",
    "_units",
    "_spec",
    "schedules",
    "losses",
    "_sampling",
    # Minimisation of an objective.
    "_solvers",
    "_solvers.path_newton",
    "_solvers.anderson",
    "_solvers.scale_fixed_point",
    "_solvers.lbfgs",
    "_solvers.newton",
    "_solvers.redescending",
    "_solvers.working_set",
    "_solvers.proximal_newton",
    "_solvers.near_rows",
    "_solvers.working_vertex",
    "_solvers.working_columns",
    "_solvers.l1_quadratic",
    "_solvers.lad_simplex",
    "_solvers.result",
    # The objective.
    "_model",
    "_model.duality",
    "_model.scale",
    "_model.whitening",
    "_model.linear_loss",
    "_model.penalty",
    "_model.normal_constants",
    "_model.loss",
    # X, and vectors with one number per row of X.
    "_engines",
    "_engines.dask",
    "_engines.cluster",
    "_engines.dask_blocks",
    "_engines.rounds",
    "_engines.block_data",
    "_engines.blocks",
    "_engines.block_line_search",
    "_engines.order_statistics",
    "_engines.vectors",
    "_engines.in_memory",
    "_engines.sparse",
    "_engines.small",
    "_engines.dense",
    "_engines.base",
    "_engines.threads",
    "_engines.kernels",
    "_engines.compile",
    "_reductions",
    # Data that are not in memory.
    "_array_api",
    "_lazy_data",
]
# Annotation-only imports, which may point upwards: (module, imported module).
UPWARDS_FOR_ANNOTATIONS = {
    # A Hessian is computed in the coordinates of a whitening.
    ("_model.linear_loss", "_model.whitening"),
}
# Imports within a function: (module, function, imported module), and the reason.
WITHIN_FUNCTIONS = {
    ("", "__getattr__", "f'.{name}'"): "displays and inference are imported on first use",
    ("_base", "predict", "skrobust._engines.dask"): "Dask is optional",
    ("_base", "score", "skrobust._engines.dask"): "Dask is optional",
    ("_coefficient_table", "frame", "pandas"): "pandas is optional",
    ("_engines.compile", "_import_kernels", ".kernels"): "Numba takes long to import",
    ("_engines.dask", "_predict_frame", "pandas"): "pandas is optional",
    ("_dask_data", "_blocks", "skrobust._engines.cluster"): "distributed is optional",
    ("_regressor", "_training_data", "skrobust._dask_data"): "Dask is optional",
    ("_base", "score", "sklearn.metrics"): "the import takes long",
    ("_cv", "get_metadata_routing", "sklearn.model_selection"): "the import takes long",
    ("_cv", "_folds", "sklearn.model_selection"): "the import takes long",
    ("_cv", "_scorer", "sklearn.metrics"): "the import takes long",
    ("_observation_table", "frame", "pandas"): "pandas is optional",
    ("displays._drawing", "check_matplotlib", "matplotlib"): "matplotlib is optional",
    ("displays._drawing", "axes", "matplotlib.pyplot"): "matplotlib is optional",
    ("displays._drawing", "axes", "matplotlib.axes"): "matplotlib is optional",
    ("displays._drawing", "panel_axes", "matplotlib.pyplot"): "matplotlib is optional",
    ("displays._drawing", "scatter", "matplotlib.cbook"): "matplotlib is optional",
    ("displays._drawing", "scatter", "matplotlib.collections"): "matplotlib is optional",
    ("displays._drawing", "line", "matplotlib.cbook"): "matplotlib is optional",
    ("displays._drawing", "line", "matplotlib.lines"): "matplotlib is optional",
}


class Import(NamedTuple):
    """An import statement or a call of import_module.

    `module` is the full name of the module, and `names` are the names imported from it. If the
    module itself is imported, `bound` is the name to which it is bound. `function` is the
    innermost function that contains the statement.
    """

    module: str
    names: tuple[str, ...]
    bound: str | None
    function: str | None
    for_annotations: bool

    @property
    def package(self):
        return self.module.partition(".")[0]


def path_of(module):
    path = ROOT.joinpath(*module.split(".")) if module else ROOT
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def is_module(name):
    """Return whether a full name denotes a module of the package."""
    inside = name.removeprefix("skrobust").removeprefix(".")
    return name.partition(".")[0] == "skrobust" and path_of(inside).exists()


def tree_of(module):
    return ast.parse(path_of(module).read_text(encoding="utf-8"))


def imports_of(module):
    """Return the imports of a module in source order."""
    parts = ["skrobust", *module.split(".")] if module else ["skrobust"]
    package = parts if path_of(module).name == "__init__.py" else parts[:-1]
    found = []

    def visit(node, function, for_annotations):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        here = function, for_annotations
        if isinstance(node, ast.Import):
            found.extend(Import(a.name, (), a.asname or a.name, *here) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, node.module] if node.module else base)
            names = []
            for alias in node.names:
                # `from . import losses` imports a module, not a name defined in the package.
                name, bound = f"{source}.{alias.name}", alias.asname or alias.name
                if is_module(name):
                    found.append(Import(name, (), bound, *here))
                else:
                    names.append(alias.name)
            if names:
                found.append(Import(source, tuple(names), None, *here))
        elif isinstance(node, ast.Call) and called_name(node) in DYNAMIC_IMPORTS:
            found.append(Import(imported_by_call(node), (), None, *here))
        checking = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.iter_child_nodes(node):
            visit(child, function, for_annotations or (checking and child in node.body))

    visit(tree_of(module), None, False)
    return found


DYNAMIC_IMPORTS = ("import_module", "__import__")


def called_name(call):
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def imported_by_call(call):
    """Return the constant suffix of the argument to import_module, such as ".kernels"."""
    argument = call.args[0]
    parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
    return parts[-1].value if isinstance(parts[-1], ast.Constant) else ast.unparse(argument)


def within_package(module):
    """Return pairs (name in LAYERS, Import) for the imports of modules of the package."""
    return [
        (found.module.removeprefix("skrobust").removeprefix("."), found)
        for found in imports_of(module)
        if found.package == "skrobust"
    ]


def test_the_list_of_layers_is_complete():
    modules = []
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules.append(".".join(part for part in parts if part != "__init__"))
    assert sorted(LAYERS) == sorted(modules)


@pytest.mark.parametrize("module", LAYERS)
def test_imports_point_downwards(module):
    below = LAYERS[LAYERS.index(module) + 1 :]
    upwards = [
        name
        for name, found in within_package(module)
        if name not in below
        and not (found.for_annotations and (module, name) in UPWARDS_FOR_ANNOTATIONS)
    ]
    assert upwards == []


def test_each_exception_for_annotations_is_needed():
    used = {
        (module, name)
        for module in LAYERS
        for name, found in within_package(module)
        if found.for_annotations and LAYERS.index(name) < LAYERS.index(module)
    }
    assert used == UPWARDS_FOR_ANNOTATIONS


@pytest.mark.parametrize("module", LAYERS)
def test_only_the_kernels_import_numba(module):
    imported = {found.package for found in imports_of(module)} & {"numba", "llvmlite"}
    assert imported == ({"numba", "llvmlite"} if module == "_engines.kernels" else set())


@pytest.mark.parametrize("module", LAYERS)
def test_only_its_engine_imports_dask(module):
    imported = {found.package for found in imports_of(module)} & {"dask", "distributed"}
    allowed = {"_engines.dask": {"dask"}, "_engines.dask_blocks": {"dask"}}
    allowed["_engines.cluster"] = {"dask", "distributed"}
    assert imported == allowed.get(module, set())


@pytest.mark.parametrize("module", LAYERS)
def test_only_the_displays_import_matplotlib(module):
    imported = {found.package for found in imports_of(module)}
    assert "matplotlib" not in imported or module.startswith("displays.")


@pytest.mark.parametrize("module", LAYERS)
def test_no_private_name_of_another_module_is_imported_or_used(module):
    private, modules = [], {}
    for name, found in within_package(module):
        # Module names may begin with an underscore.
        private += [f"{name}.{n}" for n in found.names if n.startswith("_")]
        if found.bound is not None:
            modules[found.bound] = found.module
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in modules:
            name = f"{modules[ast.unparse(node.value)]}.{node.attr}"
            if node.attr.startswith("_") and not is_module(name):
                private.append(name)
    assert private == []


def test_imports_within_functions_are_those_with_a_reason():
    found = {
        (module, each.function, each.module)
        for module in LAYERS
        for each in imports_of(module)
        if each.function is not None
    }
    assert found == WITHIN_FUNCTIONS.keys()


# Consequences of the order of the layers ----------------------------------------------


def imported_by(package):
    """Return the packages and modules that a package imports, even if only for annotations."""
    modules = [m for m in LAYERS if m == package or m.startswith(f"{package}.")]
    imported = {name for module in modules for name, _ in within_package(module)}
    return {name.partition(".")[0] for name in imported} - {package}


def test_solvers_use_only_the_model_the_engines_and_reductions():
    # In particular, the solvers use neither samples nor units nor estimators.
    assert imported_by("_solvers") == {"_model", "_engines", "_reductions"}


def test_the_model_uses_no_solver():
    assert imported_by("_model") == {"_engines", "_reductions"}


def test_engines_use_only_the_reductions():
    # An engine with its own row-vector class registers the class in `_reductions`.
    assert imported_by("_engines") == {"_reductions"}


def test_reductions_import_nothing_of_the_package():
    assert within_package("_reductions") == []


# The function that reads imports ------------------------------------------------------

EXAMPLE = """
from __future__ import annotations
import numpy as np, numba.core
from typing import TYPE_CHECKING
from .. import losses as functions, __version__
from . import newton
from .newton import newton as minimise
from .._engines.base import Engine, _private
if TYPE_CHECKING:
    from .._fit import Target
else:
    from .. import _fit

class Solver:
    def run(self):
        import scipy.linalg
        importlib.import_module(f"{__package__}.kernels")
"""


def test_imports_are_read_as_python_means_them(monkeypatch):
    monkeypatch.setattr(f"{__name__}.tree_of", lambda module: ast.parse(EXAMPLE))
    assert imports_of("_solvers.example") == [
        Import("__future__", ("annotations",), None, None, False),
        Import("numpy", (), "np", None, False),
        Import("numba.core", (), "numba.core", None, False),
        Import("typing", ("TYPE_CHECKING",), None, None, False),
        Import("skrobust.losses", (), "functions", None, False),
        Import("skrobust", ("__version__",), None, None, False),
        Import("skrobust._solvers.newton", (), "newton", None, False),
        Import("skrobust._solvers.newton", ("newton",), None, None, False),
        Import("skrobust._engines.base", ("Engine", "_private"), None, None, False),
        Import("skrobust._fit", ("Target",), None, None, True),
        Import("skrobust._fit", (), "_fit", None, False),
        Import("scipy.linalg", (), "scipy.linalg", "run", False),
        Import(".kernels", (), None, "run", False),
    ]

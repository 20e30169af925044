"""Configuration of the site: sphinx-build -W --keep-going -b html docs docs/_build/html

Neither the build nor the site loads files from the network: links to other projects are built
from URL patterns, MathJax comes from a Python package, and the theme contains its fonts.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

import skrobust
from skrobust._base import LinearRegressor

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "skrobust"
author = "The skrobust developers"
copyright = author
release = version = skrobust.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.extlinks",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "skrobust_docs",
]
exclude_patterns = ["_build", "auto_examples/*.py", "auto_examples/*.ipynb"]
templates_path = ["_templates"]
nitpicky = True

# MyST settings for the Markdown pages, which can also be read on GitHub.
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence", "attrs_inline"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

# The API reference. Types are stated in the numpydoc sections and not taken from annotations.
autodoc_typehints = "none"
autosummary_generate = True
autosummary_ignore_module_all = False
numpydoc_show_class_members = False
# The build fails if a docstring has one of the following faults: sections or parameters that
# are unknown or out of order, missing parameters, a missing summary or a missing return value.
numpydoc_validation_checks = {
    *("GL06", "GL07", "GL08", "SS01", "SS03"),
    *("PR01", "PR02", "PR03", "PR04", "RT01"),
}
# Tables are returned by functions, so the docstrings of their classes list attributes rather
# than parameters. The method docstrings of a named tuple come from Python.
numpydoc_validation_exclude = {
    r"skrobust\.inference\.(Coefficient|Observation)Table$",
    r"skrobust\.inference\.WaldTest\.(count|index)$",
}
extlinks = {
    "arxiv": ("https://arxiv.org/abs/%s", "arXiv:%s"),
    "doi": ("https://doi.org/%s", "doi:%s"),
}
extlinks_detect_hardcoded_links = False

sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["auto_examples"],
    "filename_pattern": r"/plot_",
    # The other scripts are meant for a terminal and are not part of the gallery.
    "ignore_pattern": r"^(?!plot_)",
    "subsection_order": [
        *("../examples/getting_started", "../examples/tuning", "../examples/diagnostics"),
        *("../examples/limits", "../examples/large_and_sparse"),
    ],
    "within_subsection_order": "skrobust_docs.place_in_gallery",
    "backreferences_dir": "api/backreferences",
    "doc_module": ("skrobust",),
    "reference_url": {"skrobust": None},
    "image_srcset": ["2x"],
    "reset_modules": ("matplotlib", "skrobust_docs.warnings_are_errors"),
    "reset_modules_order": "both",
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
# The name of the site, which every page shows.
html_title = f"skrobust {release}"
# The menu of a page shows the methods of a class without the name of the class.
toc_object_entries_show_parents = "hide"
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
# A page without subpages has no menu on the left.
html_sidebars = {
    name: []
    for name in (
        *("index", "installation", "getting_started", "tutorial", "mathematics"),
        *("performance", "design", "changelog", "search", "genindex"),
    )
}
html_context = {"default_mode": "auto"}
html_favicon = "_static/favicon.svg"
html_show_sourcelink = False
html_copy_source = False
_mathjax = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax"
html_static_path = ["_static", str(_mathjax / "tex-svg.js")]
html_css_files = ["site.css"]
mathjax_path = "tex-svg.js"
copybutton_exclude = ".linenos, .gp, .go"

# On the site, the HTML representation of an estimator links to its page in the reference.
LinearRegressor._doc_link_template = "../../api/{estimator_module}.{estimator_name}.html"

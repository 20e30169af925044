"""Configuration of the site: sphinx-build -W --keep-going -b html docs docs/_build/html

Nothing is fetched: other projects are linked by the patterns of their addresses, MathJax
comes from a package, and the theme carries its fonts.
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

# Pages in Markdown; GitHub shows them too.
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence", "attrs_inline"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

# The reference. Types are in the numpydoc sections.
autodoc_typehints = "none"
autosummary_generate = True
autosummary_ignore_module_all = False
numpydoc_show_class_members = False
# These are errors: sections that are unknown or out of order, parameters that are missing,
# unknown or out of order, and a missing summary or return value.
numpydoc_validation_checks = {
    *("GL06", "GL07", "GL08", "SS01", "SS03"),
    *("PR01", "PR02", "PR03", "PR04", "RT01"),
}
# Tables are made by functions; their pages document attributes, not parameters.
# The docstrings of a named tuple's methods come from Python.
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
    # The other scripts are for a terminal.
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
# Shown beside the favicon on each page.
html_title = f"skrobust {release}"
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
# Pages without pages below them have no menu on the left.
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

# In the site itself an estimator's HTML links to its page in the reference.
LinearRegressor._doc_link_template = "../../api/{estimator_module}.{estimator_name}.html"

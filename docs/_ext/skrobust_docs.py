"""Sphinx extension: links to other projects, benchmark results, page descriptions, and the
order of the gallery.
"""

import re
import textwrap
import warnings
from html import escape
from pathlib import Path

from docutils import nodes

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
# URL patterns for the pages of other projects; {} stands for the documented name. Intersphinx
# inventories are not used, because they would have to be downloaded.
PAGES = {
    "sklearn": "https://scikit-learn.org/stable/modules/generated/{}.html",
    "scipy": "https://docs.scipy.org/doc/scipy/reference/generated/{}.html",
    "numpy": "https://numpy.org/doc/stable/reference/generated/{}.html",
    "pandas": "https://pandas.pydata.org/docs/reference/api/{}.html",
    "statsmodels": "https://www.statsmodels.org/stable/generated/{}.html",
}
# Pages for labels of scikit-learn's documentation to which inherited docstrings refer.
LABELS = {"r2_score": "https://scikit-learn.org/stable/modules/model_evaluation.html#r2-score"}
# Order of the examples within each section of the gallery. Examples that are not listed here
# come last.
GALLERY = [
    "plot_co2",
    "plot_one_outlier",
    "plot_units",
    "plot_displays",
    "plot_beta",
    "plot_choosing_beta",
    "plot_stackloss",
    "plot_inference",
    "plot_heavy_tails",
    "plot_leverage",
    "plot_davis",
    "plot_mm",
    "plot_comparison",
    "plot_weights",
    "plot_pipeline",
    "plot_schedule",
    "plot_sparse_path",
    "plot_positive",
    "plot_sparse",
    "plot_dask",
]
_filters: list = []


def link_elsewhere(app, env, node, content):
    """Return a link to the page that documents a name of another project.

    The result is None if no pattern is known for the name.
    """
    target, domain = node.get("reftarget", ""), node.get("refdomain")
    page = PAGES.get(target.split(".")[0]) if domain == "py" else LABELS.get(target)
    if page is None:
        return None
    return nodes.reference("", "", content, internal=False, refuri=page.format(target))


def prepare(app, docname, source):
    """Insert the benchmark results that a page requests by a line such as {{ peers.md }}.

    Blank lines before closing fences, which doctests in Markdown need, are removed.
    """

    def result(match):
        name = match[1]
        path, script = RESULTS / name, f"python -m benchmarks.{Path(name).stem}"
        app.env.note_dependency(str(path), docname=docname)
        if not path.is_file():
            return f"*(This checkout contains no results. `{script}` writes `{name}`.)*"
        if name.endswith(".png"):
            return f"![Results of {script}](/../benchmarks/results/{name})"
        text = path.read_text(encoding="utf-8")
        # The title is removed, and the other headings are moved down one level.
        text = re.sub(r"^# .*\n", "", text)
        text = re.sub(r"^(#+ )", r"#\1", text, flags=re.MULTILINE)
        # Links to figures in the file are relative to the results folder.
        return re.sub(r"\]\((?!\w+:|#|/)", "](/../benchmarks/results/", text)

    source[0] = re.sub(r"\n\n```$", "\n```", source[0], flags=re.MULTILINE)
    source[0] = re.sub(r"^\{\{ (\S+) \}\}$", result, source[0], flags=re.MULTILINE)


def describe(app, pagename, templatename, context, doctree):
    """Use the first paragraph of a page as its description, which search engines show."""
    if doctree is None:
        return
    for paragraph in doctree.findall(nodes.paragraph):
        # Paragraphs in notes, lists and tables are not used.
        if paragraph.parent.tagname in {"section", "desc_content"}:
            text = escape(textwrap.shorten(paragraph.astext(), 160, placeholder=" …"))
            context["metatags"] += f'<meta name="description" content="{text}">\n'
            return


def place_in_gallery(filename):
    """Return the sort key of an example."""
    name = Path(filename).stem
    return (GALLERY.index(name) if name in GALLERY else len(GALLERY), name)


def warnings_are_errors(gallery_conf, filename, when):
    """Turn warnings into errors while an example runs, but not in Sphinx itself."""
    if when == "before":
        _filters[:] = warnings.filters
        warnings.filterwarnings("error")
    else:
        warnings.filters[:] = _filters


def setup(app):
    app.connect("missing-reference", link_elsewhere)
    app.connect("source-read", prepare)
    app.connect("html-page-context", describe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

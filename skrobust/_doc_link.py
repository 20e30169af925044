"""The link from an estimator's HTML representation to its page in the API reference."""

from importlib import metadata


class DocLinkMixin:
    """Links to the site that the installed package names as its "Documentation".

    scikit-learn puts the link into the representation where `_doc_link_template` is not
    empty. While the metadata name no site there is none: a link that leads nowhere is worse.
    """

    _doc_link_module = "skrobust"

    @property
    def _doc_link_template(self):
        site = _documentation()
        return f"{site}/api/{{estimator_module}}.{{estimator_name}}.html" if site else ""


def _documentation():
    """The address of the site, from ``[project.urls]`` in pyproject.toml; "" without one."""
    try:
        urls = metadata.metadata("skrobust").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        return ""
    named = dict(url.split(", ", 1) for url in urls)
    return named.get("Documentation", "").rstrip("/")

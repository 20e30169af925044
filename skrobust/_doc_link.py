"""The link from an estimator's HTML representation to its page in the API reference."""

from importlib import metadata


class DocLinkMixin:
    """Mixin that links an estimator to the documentation site of the installed package.

    The site is the project URL "Documentation" of the package metadata. scikit-learn shows a
    link only if `_doc_link_template` is not empty, so that no link is shown while the metadata
    name no site.
    """

    _doc_link_module = "skrobust"

    @property
    def _doc_link_template(self) -> str:
        site = _documentation_url()
        return f"{site}/api/{{estimator_module}}.{{estimator_name}}.html" if site else ""


def _documentation_url() -> str:
    """Return the project URL "Documentation" of the package metadata, or ""."""
    try:
        package = metadata.metadata("skrobust")
    except metadata.PackageNotFoundError:
        return ""
    # Each entry has the form "label, URL".
    entries: list[str] = package.get_all("Project-URL") or []
    urls = dict(entry.split(", ", 1) for entry in entries)
    return urls.get("Documentation", "").rstrip("/")

"""The link from an estimator's HTML to its documentation."""

from importlib import metadata

import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skrobust import SmoothL1Regressor

SITE = "https://example.org/skrobust"
PAGE = f"{SITE}/api/skrobust.SmoothL1Regressor.html"


@pytest.fixture
def named_sites(monkeypatch):
    """Return a function that replaces the Project-URL lines in the package's metadata."""

    def name(*lines):
        message = metadata.metadata("skrobust")
        del message["Project-URL"]
        for line in lines:
            message["Project-URL"] = line
        monkeypatch.setattr(metadata, "metadata", lambda package: message)

    return name


def test_the_html_links_to_the_page_on_the_site_that_the_package_names(named_sites):
    named_sites("Changes, https://example.org/changes", f"Documentation, {SITE}/")
    assert f'href="{PAGE}' in SmoothL1Regressor()._repr_html_()
    assert f'href="{PAGE}' in make_pipeline(StandardScaler(), SmoothL1Regressor())._repr_html_()


@pytest.mark.parametrize("lines", [(), ("Changes, https://example.org/changes",)])
def test_without_a_site_there_is_no_link(named_sites, lines):
    named_sites(*lines)
    assert SmoothL1Regressor()._get_doc_link() == ""
    assert "href" not in SmoothL1Regressor()._repr_html_()


def test_without_an_installed_package_there_is_no_link(monkeypatch):
    def missing(package):
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "metadata", missing)
    assert SmoothL1Regressor()._get_doc_link() == ""

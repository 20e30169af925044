"""Check the built site: python docs/check_site.py docs/_build/html

The script checks that the targets of all internal links exist, that no page loads a file from
another site, that every page has a description, that the search finds the expected pages for
some common terms, and that every public name has a page and an example. It needs no network
access.
"""

import inspect
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import skrobust

# Word stems, as in the search index, each with a page that a search for it must find.
SEARCHES = {
    "beta": "user_guide/choosing_beta",
    "outlier": "user_guide/glossary",
    "leverag": "user_guide/limits",
    "tukey": "user_guide/limits",
    "breakdown": "user_guide/robust_mm",
    "standard error": "user_guide/limits",
}
# HTML elements that make a browser load a file automatically, each with the attribute that
# contains the address of the file.
FETCHED = {"script": "src", "img": "src", "link": "href", "source": "src", "iframe": "src"}


class Page(HTMLParser):
    """The links and anchors of a page, and the addresses of the files that it loads."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors, self.fetched = [], set(), []
        self.described = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.anchors.update(found[key] for key in ("id", "name") if found.get(key))
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        self.described |= tag == "meta" and found.get("name") == "description"
        address = found.get(FETCHED.get(tag, ""))
        relation = found.get("rel") or ""
        if address and relation not in {"next", "prev", "index", "search", "canonical"}:
            self.fetched.append(address)
        # A srcset has the form "a.png, b.png 2.00x".
        for part in filter(None, (found.get("srcset") or "").split(",")):
            self.fetched.append(part.split()[0])


def is_remote(address):
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme not in {"", "data"}


def faults_of_links(site, pages):
    for path, page in pages.items():
        for address in page.links + page.fetched:
            parts = urlsplit(address)
            if is_remote(address) or parts.scheme == "data":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{path.relative_to(site)}: link to a missing file, {address}"
            elif parts.fragment and target in pages:
                # The part after :~: is text for the browser to highlight, not an anchor.
                fragment = unquote(parts.fragment).split(":~:")[0]
                if fragment and fragment not in pages[target].anchors:
                    yield f"{path.relative_to(site)}: link to a missing anchor, {address}"


def faults_of_fetching(site, pages):
    for path, page in pages.items():
        yield from (
            f"{path.relative_to(site)}: loads {address}"
            for address in page.fetched
            if is_remote(address)
        )
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        for address in re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')]+)", text):
            yield f"{path.relative_to(site)}: loads {address}"


def faults_of_index(site, pages):
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))

    def pages_with(word):
        numbers = set()
        for terms in index["terms"], index["titleterms"]:
            found = terms.get(word, [])
            numbers.update([found] if isinstance(found, int) else found)
        return {index["docnames"][i] for i in numbers}

    for name in index["docnames"]:
        if not pages[site / f"{name}.html"].described:
            yield f"{name}.html has no description"
    for words, page in SEARCHES.items():
        if page not in set.intersection(*map(pages_with, words.split())):
            yield f"the search for {words} does not find {page}"


def public_names():
    """Yield the public names of the package and of its public modules, with their objects."""
    for name in skrobust.__all__:
        value = getattr(skrobust, name)
        if inspect.ismodule(value):
            yield from ((f"{name}.{inner}", getattr(value, inner)) for inner in value.__all__)
        else:
            yield name, value


def faults_of_reference(site):
    for name, value in public_names():
        if not (site / "api" / f"skrobust.{name}.html").is_file():
            yield f"skrobust.{name} has no page: list it in docs/api.rst"
        if ">>>" not in (inspect.getdoc(value) or ""):
            yield f"skrobust.{name} has no example"


def main():
    site = Path(sys.argv[1]).resolve()
    pages = {
        path: Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.parts
    }
    faults = [
        *faults_of_links(site, pages),
        *faults_of_fetching(site, pages),
        *faults_of_index(site, pages),
        *faults_of_reference(site),
    ]
    print(*faults, sep="\n", end="\n" if faults else "")
    n_links = sum(len(page.links) for page in pages.values())
    print(f"{len(pages)} pages, {n_links} links, {len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()

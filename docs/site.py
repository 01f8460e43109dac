"""`python -m docs.site DIR [--pictures MADE]`: the documents as plain pages for any server.

Every Markdown file below `docs/`, with README and CHANGELOG, becomes one page with a menu; pictures
are copied.  A link that leads nowhere ends the build.  `MADE` is a folder of pictures that the
browser tests left ($ECPDS_PICTURES): those that the documents show are renewed from there first.
"""

from __future__ import annotations

import re
import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

from ecpds import __version__

ROOT: Final = Path(__file__).resolve().parent.parent
PICTURES: Final = ROOT / "docs" / "pictures"
STYLE: Final = Path(__file__).with_name("site.css")
GROUPS: Final = (
    ("Start", ("README.md", "CHANGELOG.md")),
    ("Guides", ("docs/guides/*.md",)),
    ("Connecting", ("docs/*.md",)),
    ("Reference", ("docs/reference/*.md",)),
    ("Decisions", ("docs/decisions/*.md",)),
)
MADE: Final[Mapping[str, str]] = {
    "dashboard-overview-light.png": "dashboard-overview-1280-light.png",
    "dashboard-overview-dark.png": "dashboard-overview-1280-dark.png",
    "dashboard-destination.png": "dashboard-destination-1280-dark.png",
    "dashboard-transfer.png": "dashboard-transfer-1280-dark.png",
    "dashboard-narrow.png": "dashboard-overview-320-dark.png",
    "dashboard-outstanding.png": "dashboard-outstanding-1280-light.png",
    "dashboard-host-map.png": "dashboard-host-map-1280-dark.png",
}
"""Pictures of the documents, by those of the browser tests."""


class BrokenLink(Exception):
    """A document links to what is not there."""


@dataclass(frozen=True, slots=True)
class Page:
    """One document."""

    path: str  # below the root, as `docs/guides/s3.md`
    title: str
    body: str
    anchors: frozenset[str]
    links: tuple[str, ...]

    @property
    def address(self) -> str:
        """Return where it stands below the root of the site."""
        return address_of(self.path)


def address_of(path: str) -> str:
    """Return the address of a document."""
    inside = path.removeprefix("docs/")
    if inside == "README.md":
        return "index.html"
    return f"{inside.removesuffix('README.md')}index.html" if inside.endswith("/README.md") else (
        inside.removesuffix(".md") + ".html"
    )  # fmt: skip


def slug(text: str) -> str:
    """Return the anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def read(path: str, known: frozenset[str]) -> Page:
    """Return a document as a page; links to other documents lead to their pages."""
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    tokens = parser.parse((ROOT / path).read_text(encoding="utf-8"))
    anchors: dict[str, int] = {}
    title, links = "", []
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            text = _plain(tokens[number + 1])
            name = slug(text)
            anchors[name] = anchors.get(name, -1) + 1
            token.attrs["id"] = name if not anchors[name] else f"{name}-{anchors[name]}"
            title = title or text
        for link in _links(token):
            target = str(link.attrs.get("href", link.attrs.get("src", "")))
            links.append(target)
            link.attrs["href" if "href" in link.attrs else "src"] = _led(path, target, known)
    body = parser.renderer.render(tokens, parser.options, {})
    for name in sorted(known):  # documents that are named in passing are links, too
        named = f"<code>{name}</code>"
        body = body.replace(named, f'<a href="{up(path)}{address_of(name)}">{named}</a>')
    wide = body.replace("<table>", '<div class="table"><table>').replace(
        "</table>", "</table></div>"
    )
    ids = {str(token.attrs["id"]) for token in tokens if "id" in token.attrs}
    return Page(path, title or path, wide, frozenset(ids), tuple(links))


def _plain(token: Token) -> str:
    return "".join(one.content for one in token.children or () if one.type != "softbreak")


def _links(token: Token) -> Iterator[Token]:
    for one in token.children or ():
        if one.type == "link_open" or one.type == "image":
            yield one


def _led(path: str, target: str, known: frozenset[str]) -> str:
    """Return a link of a document as its page has it."""
    parts = urlsplit(target)
    if parts.scheme or not parts.path:
        return target
    found = inside(path, parts.path)
    if found not in known:
        return target if not found.startswith("docs/") else up(path) + found.removeprefix("docs/")
    return up(path) + address_of(found) + (f"#{parts.fragment}" if parts.fragment else "")


def inside(path: str, target: str) -> str:
    """Return a relative link as a path below the root."""
    place = (ROOT / path).parent / unquote(target)
    return Path(place).resolve().relative_to(ROOT).as_posix()


def up(path: str) -> str:
    """Return the way from the page of a document to the root of the site."""
    return "../" * address_of(path).count("/")


def documents() -> dict[str, list[str]]:
    """Return the paths of all documents by group."""
    found: dict[str, list[str]] = {}
    seen: set[str] = set()
    for title, patterns in GROUPS:
        for pattern in patterns:
            for path in sorted(ROOT.glob(pattern)):
                name = path.relative_to(ROOT).as_posix()
                if name not in seen:
                    seen.add(name)
                    found.setdefault(title, []).append(name)
    return found


def check(pages: Mapping[str, Page]) -> None:
    """Raise BrokenLink for the first link to a file, page or heading that is not there."""
    for page in pages.values():
        for target in page.links:
            parts = urlsplit(target)
            if parts.scheme:
                continue
            found = inside(page.path, parts.path) if parts.path else page.path
            if not (ROOT / found).exists():
                raise BrokenLink(f"{page.path}: there is no {target}")
            other = pages.get(found)
            if other is not None and parts.fragment and parts.fragment not in other.anchors:
                raise BrokenLink(f"{page.path}: {found} has no heading {parts.fragment!r}")


def dressed(page: Page, menu: str) -> str:
    """Return the whole text of a page."""
    root = up(page.path)
    here = f'href="{root}{page.address}"'
    own = menu.replace('href="./', f'href="{root}').replace(here, f'{here} aria-current="page"')
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(page.title)} · ecpds</title>"
        f'<link rel="stylesheet" href="{root}site.css"></head>\n<body>'
        f'<nav aria-label="Documents"><details open><summary>ecpds {__version__}</summary>'
        f"{own}</details></nav>\n<main>{page.body}</main></body></html>\n"
    )


def menu_of(groups: Mapping[str, Sequence[str]], pages: Mapping[str, Page]) -> str:
    """Return the menu of all pages; addresses begin with `./`, the root of the site."""
    pieces = []
    for title, paths in groups.items():
        rows = "".join(
            f'<li><a href="./{pages[path].address}">{escape(pages[path].title)}</a></li>'
            for path in paths
        )
        pieces.append(f"<h2>{title}</h2><ul>{rows}</ul>")
    return "".join(pieces)


def build(folder: Path) -> int:
    """Write the site into `folder`; return the number of pages.  Raises BrokenLink."""
    groups = documents()
    known = frozenset(path for paths in groups.values() for path in paths)
    pages = {path: read(path, known) for path in sorted(known)}
    check(pages)
    shutil.rmtree(folder, ignore_errors=True)
    menu = menu_of(groups, pages)
    for page in pages.values():
        target = folder / page.address
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(dressed(page, menu), encoding="utf-8")
    shutil.copytree(PICTURES, folder / "pictures")
    for page in pages.values():
        _bring(page, folder, known)
    shutil.copy(STYLE, folder / "site.css")
    return len(pages)


def _bring(page: Page, folder: Path, known: frozenset[str]) -> None:
    """Copy the files below `docs/` that a page links to and that are no pages."""
    for target in page.links:
        parts = urlsplit(target)
        if parts.scheme or not parts.path:
            continue
        found = inside(page.path, parts.path)
        if found.startswith("docs/") and found not in known and (ROOT / found).is_file():
            place = folder / found.removeprefix("docs/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / found, place)


def renew(made: Path) -> list[str]:
    """Copy what the browser tests made over the pictures of the documents; return their names."""
    found = [name for name, source in MADE.items() if (made / source).exists()]
    for name in found:
        shutil.copy(made / MADE[name], PICTURES / name)
    return found


def main(words: Sequence[str] | None = None) -> int:
    """Return 0 when the site was built, 1 when a link is broken."""
    parser = ArgumentParser(prog="python -m docs.site", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=Path, help="what the browser tests left")
    given = parser.parse_args(words)
    if given.pictures is not None:
        sys.stdout.write(f"renewed: {', '.join(renew(given.pictures)) or 'none'}\n")
    try:
        count = build(given.folder)
    except BrokenLink as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{count} pages in {given.folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

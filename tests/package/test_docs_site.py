"""The documents as a site: every page is there, every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import site


def test_the_documents_are_a_site(tmp_path: Path) -> None:
    """All pages with one menu; what they refer to is in the folder."""
    count = site.build(tmp_path / "site")
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) == count > 30
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.count('aria-current="page"') == 1, page
        assert "<script" not in text
        for target in re.findall(r'(?:href|src)="([^"#:]+)(?:#[^"]*)?"', text):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_a_link_that_leads_nowhere_ends_the_build() -> None:
    """Of files and of headings."""
    known = frozenset({"README.md", "docs/guides/s3.md"})
    pages = {path: site.read(path, known) for path in sorted(known)}
    site.check(pages)
    for target in ("docs/guides/none.md", "docs/guides/s3.md#no-such-heading"):
        broken = site.Page("README.md", "t", "", frozenset(), (target,))
        with pytest.raises(site.BrokenLink, match=r"README\.md"):
            site.check({**pages, "README.md": broken})


def test_pictures_of_the_browser_tests_become_those_of_the_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only those that were made; every name is one of the folder."""
    present = {path.name for path in site.PICTURES.glob("*.png")}
    assert set(site.MADE) == present
    monkeypatch.setattr(site, "PICTURES", tmp_path / "pictures")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "dashboard-overview-1280-dark.png").write_bytes(b"new")
    assert site.renew(tmp_path) == ["dashboard-overview-dark.png"]
    assert (tmp_path / "pictures" / "dashboard-overview-dark.png").read_bytes() == b"new"

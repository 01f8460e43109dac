"""What request paths mean, and where links lead."""

from __future__ import annotations

import pytest

from ecpds.portals.https.addresses import Kind, find, link, local

HOSTS = {"data.example": "files", "root.example": "/", "deep.example": "a b/c"}


@pytest.mark.parametrize(
    ("path", "kind", "inner", "home"),
    [
        ("/ecpds/file/D/a", Kind.BOTH, "/D/a", None),
        ("/ecpds/file/", Kind.BOTH, "/", None),
        ("/ecpds/file", Kind.BOTH, "/", None),
        ("/ecpds/data/file/D/a", Kind.FILE, "/D/a", None),
        ("/ecpds/data/list/D/", Kind.LIST, "/D/", None),
        ("/ecpds/home/pub/D/a", Kind.BOTH, "/D/a", "pub"),
        ("/ecpds/home/pub", Kind.BOTH, "/", "pub"),
        ("/ecpds/file//D", Kind.BOTH, "//D", None),  # the session decides what that means
        ("/ecpds/file/../x", Kind.BOTH, "/../x", None),
    ],
)
def test_addresses(path: str, kind: Kind, inner: str, home: str | None) -> None:
    place = find(path, "node", HOSTS)
    assert place is not None
    assert (place.kind, place.path, place.home) == (kind, inner, home)


@pytest.mark.parametrize(
    "path",
    ["/", "/ecpds/", "/ecpds/filex", "/ecpds/home/", "/ecpds/home", "/file/D", "/ecpds/data/"],
)
def test_other_addresses_name_no_place(path: str) -> None:
    assert find(path, "node", HOSTS) is None


@pytest.mark.parametrize(
    ("host", "path", "inner", "files"),
    [
        ("data.example", "/files/D/a", "/D/a", "/files/"),
        ("data.example", "/files", "/", "/files/"),
        ("root.example", "/D/a", "/D/a", "/"),
        ("deep.example", "/a b/c/D", "/D", "/a%20b/c/"),
    ],
)
def test_host_names_lead_home(host: str, path: str, inner: str, files: str) -> None:
    place = find(path, host, HOSTS)
    assert place is not None
    assert (place.home, place.path, place.files) == (host, inner, files)


def test_a_mapped_host_keeps_the_other_addresses() -> None:
    assert find("/other", "data.example", HOSTS) is None
    place = find("/ecpds/file/D", "root.example", HOSTS)
    assert place is not None
    assert place.home is None


def test_links_are_percent_encoded() -> None:
    assert link("/ecpds/file/", '/D/a b"é?#<') == "/ecpds/file/D/a%20b%22%C3%A9%3F%23%3C"
    assert link("/ecpds/file/", "/", directory=True) == "/ecpds/file/"
    assert link("/ecpds/file/", "/D", directory=True) == "/ecpds/file/D/"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "/a\r\nX: y",
        "/a b",
        "x",
        "/é",
    ],
)
def test_a_login_leads_nowhere_else(address: str) -> None:
    assert local(address) == "/ecpds/file/"


def test_a_login_leads_back() -> None:
    assert local("/ecpds/file/D/?sort=size") == "/ecpds/file/D/?sort=size"

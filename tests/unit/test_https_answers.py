"""Every error of the tree has its HTTP answer."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from ecpds.model import errors
from ecpds.model.errors import EcpdsError
from ecpds.portals.https import answers
from ecpds.portals.https.exchange import Refused
from tests.unit.test_https_fields import ask


def tree(kind: type[EcpdsError]) -> Iterator[type[EcpdsError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from tree(below)


@pytest.mark.parametrize("kind", list(tree(EcpdsError)))
def test_every_error_has_an_answer(kind: type[EcpdsError]) -> None:
    error = kind("what happened")
    status = answers.status_of(error)
    assert 400 <= status < 600
    assert answers.text_of(error).isprintable()
    assert all(value.isprintable() for value in answers.fields_of(error, ask()).values())


@pytest.mark.parametrize(
    ("error", "status", "waits"),
    [
        (errors.Unauthenticated("x"), 401, None),
        (errors.Banned("x"), 429, "600"),
        (errors.Denied("x"), 403, None),
        (errors.NotFound("x"), 404, None),
        (errors.NotStored("x"), 503, "10"),
        (errors.PreconditionFailed("x"), 412, None),
        (errors.Exists("x"), 409, None),
        (errors.QuotaExceeded("x", retry_after=99), 429, "99"),
        (errors.QuotaExceeded("x", retry_after=10**12), 429, "604800"),
        (errors.TooManyConnections("x"), 429, "2"),
        (errors.TooLarge("x"), 413, None),
        (errors.StorageFull("x"), 507, None),
        (errors.InvalidName("x"), 400, None),
        (errors.Stopping("x"), 503, "15"),
        (errors.ChecksumMismatch("x"), 400, None),
        (Refused(416, "x", Content_Range="bytes */5"), 416, None),
    ],
)
def test_statuses(error: EcpdsError, status: int, waits: str | None) -> None:
    assert answers.status_of(error) == status
    assert answers.fields_of(error, ask()).get("Retry-After") == waits


def test_missing_and_hidden_things_read_the_same() -> None:
    texts = {answers.text_of(errors.NotFound(t)) for t in ("/D is not there", "no right", "")}
    assert len(texts) == 1


def test_our_insides_stay_inside() -> None:
    assert "secret" not in answers.text_of(EcpdsError("secret detail"))
    assert answers.text_of(errors.Denied("a\r\nb")) == "a  b"


def test_programs_get_the_form_they_ask_for() -> None:
    kind, body = answers.plain(ask(), 403, "no", "denied")
    assert (kind, body) == ("text/plain; charset=utf-8", b"no\n")
    kind, body = answers.plain(ask(accept="application/json"), 403, "no", "denied")
    assert kind == "application/problem+json"
    assert json.loads(body)["code"] == "denied"
    assert json.loads(body)["status"] == 403


def test_browsers_that_know_the_form_get_no_dialog() -> None:
    assert answers.challenge(ask()).startswith("Basic ")
    assert answers.challenge(ask(cookie="portal_client=browser")).startswith("Form ")

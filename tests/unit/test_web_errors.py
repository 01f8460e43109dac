"""Errors as problem+json: every class of the tree, pointers, headers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ecpds.model import errors
from ecpds.model.decode import Where
from ecpds.model.errors import EcpdsError
from ecpds.web.errors import STATUS, TITLES, Refused, pointer_of, problem, status_of


def tree(cls: type[EcpdsError]) -> Iterator[type[EcpdsError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize(
    "cls", [one for one in tree(EcpdsError) if one.__module__ == errors.__name__]
)
def test_every_error_has_a_status_with_a_title(cls: type[EcpdsError]) -> None:
    status, document, _ = problem(cls("what happened"), "r1")
    assert status in TITLES
    assert document["type"] == f"urn:problem:{document['code']}"
    assert document["detail"] == "what happened"
    assert document["request_id"] == "r1"
    assert document["status"] == status


def test_no_status_is_a_success() -> None:
    assert all(400 <= status < 600 for status in STATUS.values())


def test_nearest_class_above_decides() -> None:
    assert status_of(errors.BadState("x")) == 409
    assert status_of(errors.NotStored("x")) == 409
    assert status_of(errors.PreconditionFailed("x")) == 412
    assert status_of(errors.RemoteAuth("x")) == 502


@pytest.mark.parametrize(
    ("key", "pointer"),
    [
        ("", ""),
        ("comment", "/comment"),
        ("aliases[0].to", "/aliases/0/to"),
        ("options.mqtt.qos", "/options/mqtt.qos"),
        ("hosts[3].options.sftp.port", "/hosts/3/options/sftp.port"),
        ("options.a/b~c", "/options/a~1b~0c"),
    ],
)
def test_pointers(key: str, pointer: str) -> None:
    assert pointer_of(key) == pointer


def test_option_names_pointer_and_nearest() -> None:
    place = Where().at("options").at("mqtt.qoss")
    status, document, _ = problem(place.error("unknown option", "mqtt.qos"), "r")
    assert status == 422
    assert document["type"] == "urn:problem:invalid-option"
    assert document["errors"] == [
        {
            "pointer": "/options/mqtt.qoss",
            "code": "invalid-option",
            "message": "options.mqtt.qoss: unknown option",
            "nearest": "mqtt.qos",
        }
    ]


def test_site_file_errors_name_file_and_line() -> None:
    error = errors.ConfigError("bad", file="site.toml", line=7, key="hosts[0].method")
    _, document, _ = problem(error, "r")
    assert document["code"] == "invalid-config"
    assert document["errors"][0] | {"file": "site.toml", "line": 7} == document["errors"][0]
    assert "site.toml:7" in document["detail"]


def test_facts_are_members() -> None:
    _, document, _ = problem(errors.Conflict("used", dependents=["A", "B"]), "r")
    assert document["dependents"] == ["A", "B"]


def test_headers() -> None:
    assert problem(errors.Stopping("x"), "r")[2]["Retry-After"] == "5"
    assert problem(errors.Unauthenticated("x"), "r")[2]["WWW-Authenticate"].startswith("Bearer")
    limited = Refused(429, "rate", "slow down", retry_after=17)
    assert problem(limited, "r")[2]["Retry-After"] == "17"
    assert problem(Refused(405, "method", "no", allow="GET"), "r")[2]["Allow"] == "GET"

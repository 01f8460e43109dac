"""The JSON Schema of events: shipped, right, and as strict as it says."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ecpds.base.resources import shared
from ecpds.model.events import FIELDS
from ecpds.model.eventschema import TYPES, of_type, schema
from tests import eventforms

# events.md section 5
EXAMPLE: dict[str, Any] = json.loads("""
{"v":1,"id":"01J0000000000000000000000Z","ts":"2031-05-04T10:00:01.000Z","type":"INH","node":"m1",
"transfer_id":901,"file_id":501,
"destination":{"name":"MET","type":"Gold","monitored":true,"country":"fr"},
"file":{"name":"a.grb","size":42,"identity":"a.grb","checksum":"sha256:00"},
"meta":{"stream":"WAVE","type":null,"time":"00","base":"2031-05-04T00:00:00.000Z","step":12},
"user":{"id":"bob","kind":"data","subscriber":null,"country":"fr"},
"net":{"protocol":"sftp","client":"198.51.100.7","server":"m1","tls":null},"action":"download",
"started":"2031-05-04T10:00:00.000Z","duration_ms":7,"bytes":42,"offset":0,"outcome":"ok",
"trace":"c0ffee"}""")


def test_it_is_shipped_and_a_schema() -> None:
    """The file beside the samples is what the code declares."""
    text = (shared("config") / "events.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == schema()
    Draft202012Validator.check_schema(schema())
    Draft202012Validator.check_schema(schema(strict=True))


def test_events_5_the_example_is_right() -> None:
    """And a field that nobody knows yet harms no reader."""
    validator = Draft202012Validator(schema())
    assert validator.is_valid(EXAMPLE)
    assert validator.is_valid(EXAMPLE | {"new": 1})
    assert eventforms.problems(EXAMPLE | {"new": 1}) != []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("v", 2),
        ("id", "1"),
        ("ts", "2031-05-04 10:00:01"),
        ("type", "NEW"),
        ("bytes", "42"),
        ("bytes", -1),
        ("outcome", "good"),
        ("transfer_id", None),
        ("destination", "MET"),
        ("trace", 7),
    ],
)
def test_what_is_wrong(name: str, value: object) -> None:
    assert not Draft202012Validator(schema()).is_valid(EXAMPLE | {name: value})


def test_events_5_every_classic_field_has_its_place() -> None:
    """The paths of the classic lines are those of the schema."""
    for kind, fields in FIELDS.items():
        for name, path in fields:
            found: Any = of_type(kind, strict=True)
            for step in path.split("."):
                assert step in found.get("properties", {}), f"{kind} {name}: {path}"
                found = found["properties"][step]


def test_the_strict_form_asks_for_all_fields() -> None:
    bare = deepcopy(EXAMPLE)
    del bare["user"]["kind"]
    assert any("'kind' is a required property" in one for one in eventforms.problems(bare))
    assert set(TYPES) >= set(FIELDS)

"""A WIS2 node for tests: its site, its discovery record, the official checks of its messages."""

from __future__ import annotations

import gc
import json
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    # pywis-pubsub 0.12 and pywis-topics 0.4 leave temporary directories to the collector
    warnings.simplefilter("ignore")
    ets: Any = import_module("pywis_pubsub.ets")  # the package hides it behind a command
    from pywis_pubsub.verification import data_verified
    from pywis_topics.topics import TopicHierarchy

    gc.collect()

TABLES = Path(__file__).parent / "vectors" / "wis2"
CENTRE = "xx-example-test"
RECORD = f"urn:wmo:md:{CENTRE}:synop"
SUB = "core/weather/surface-based-observations/synop"
TOPIC = f"a/wis2/{CENTRE}/data/{SUB}"
PASSWORD = "everyone"


def options(**more: str) -> dict[str, str]:
    """Return the options of a destination that is a dataset."""
    return {
        "wis2.publish": "yes",
        "wis2.centreId": CENTRE,
        "wis2.topic": SUB,
        "wis2.metadataId": RECORD,
        "wis2.datetime": r"_(\d{12})",
        "wis2.geometry": "6.15,46.22,420",
        **more,
    }


def site(**more: str) -> dict[str, Any]:
    """Return a site with that destination and the user of the Global Brokers."""
    return {
        "destinations": [{"name": "NORTH", "options": options(**more)}],
        "data_users": [
            {
                "login": "everyone",
                "password": PASSWORD,
                "operations": ["dir", "get"],
                "destinations": ["NORTH"],
                "options": {"portal.mqttPermission": "origin/a/wis2/#,cache/a/wis2/#"},
            }
        ],
    }


def record(identifier: str = RECORD, **properties: Any) -> dict[str, Any]:
    """Return a discovery record."""
    return {
        "id": identifier,
        "conformsTo": ["http://wis.wmo.int/spec/wcmp/2/conf/core"],
        "type": "Feature",
        "time": {"interval": ["2026-01-01", ".."], "resolution": "PT1H"},
        "geometry": {"type": "Point", "coordinates": [6.15, 46.22]},
        "properties": {
            "type": "dataset",
            "title": "Hourly synoptic observations of Example",
            "description": "Surface observations of all stations of Example, hourly.",
            "keywords": ["surface", "observation"],
            "themes": [
                {
                    "concepts": [{"id": "weather", "title": "Weather"}],
                    "scheme": "http://codes.wmo.int/wis/topic-hierarchy/earth-system-discipline",
                }
            ],
            "contacts": [
                {"organization": "Example", "roles": ["host"], "emails": [{"value": "a@b.int"}]}
            ],
            "created": "2026-01-01T00:00:00Z",
            "wmo:dataPolicy": "core",
            **properties,
        },
        "links": [
            {
                "rel": "items",
                "type": "application/geo+json",
                "title": "Notifications",
                "href": "mqtts://broker.example.org:8883",
                "channel": f"origin/{TOPIC}",
            }
        ],
    }


def official(payload: bytes, topic: str, content: bytes | None = None) -> dict[str, Any]:
    """Check a message with the official executable tests and code lists; return it."""
    document: dict[str, Any] = json.loads(payload)
    assert len(payload) <= 8192
    ets.MESSAGE_SCHEMA = TABLES / "wis2-notification-message-bundled.json"
    suite = ets.WNMTestSuite(document)
    report = suite.run_tests(fail_on_schema_validation=True)["ets-report"]
    assert report["summary"]["FAILED"] == 0, report
    assert TopicHierarchy(str(TABLES)).validate(topic, publication=True), topic
    if content is not None:
        told = document["properties"]["integrity"]
        size = document["links"][0]["length"]
        assert data_verified(content, size, told["method"], told["value"])
    return document

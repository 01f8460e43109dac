"""The shipped alert rules and dashboard name metrics and labels that the node has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from prometheus_client.metrics import MetricWrapperBase

from ecpds.base.metrics import OTHERS, Metrics
from ecpds.model.status import TransferStatus

FOLDER = Path(__file__).parents[2] / "config" / "monitoring"
FOREIGN = {"up"}
WORDS = {
    "and", "by", "deriv", "destination", "histogram_quantile", "host", "increase", "le",
    "or", "predict_linear", "protocol", "direction", "rate", "result", "status", "sum", "unless",
}  # fmt: skip
OWN_LABELS = {"job", "instance", "le"}


def metrics() -> dict[str, set[str]]:
    """Return the names under which samples appear, with their labels."""
    found: dict[str, set[str]] = {}
    for one in vars(Metrics()).values():
        if not isinstance(one, MetricWrapperBase):
            continue
        labels = set(one._labelnames)
        for family in one.describe():
            endings = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
            for ending in endings.get(family.type, [""]):
                found[family.name + ending] = labels
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Yield where a query stands, and the query."""
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            inner = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"])
            assert inner is not None
            yield variable["name"], f'{inner[1]}{{{inner[2]}="x"}}'


def test_every_query_names_what_there_is() -> None:
    """Metrics, their labels, the labels that are grouped by; every bracket is closed."""
    known = metrics()
    for where, text in expressions():
        for opening, closing in ("()", "[]", "{}"):
            assert text.count(opening) == text.count(closing), where
        used: set[str] = set()
        for name, given in re.findall(r"\b((?:ecpds_|up)\w*)(?:\{([^}]*)\})?", text):
            assert name in known or name in FOREIGN, f"{where}: {name}"
            used |= known.get(name, set())
            labels = set(re.findall(r"(\w+)\s*[!=]~?=?", re.sub(r'"[^"]*"', '""', given)))
            assert labels <= known.get(name, set()) | OWN_LABELS, f"{where}: {labels}"
        for group in re.findall(r"\bby \(([^)]*)\)", text):
            assert {one.strip() for one in group.split(",")} <= used | OWN_LABELS, where


def test_no_other_word_is_in_a_query() -> None:
    """Whatever is no metric is a word of PromQL or a label."""
    for where, text in expressions():
        bare = re.sub(r'\{[^}]*\}|\[[^\]]*\]|"[^"]*"', "", text)
        words = set(re.findall(r"[A-Za-z_]\w*", bare))
        words -= {one for one in words if one.startswith("ecpds_")} | FOREIGN
        assert words <= WORDS, f"{where}: {words - WORDS}"


def test_alerts_say_what_to_do() -> None:
    """Each has a severity, a summary that names its subject, and a first step."""
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "action"}


def test_status_words_are_ours() -> None:
    """Of transfers."""
    known = {status.word for status in TransferStatus}
    for where, text in expressions():
        for words in re.findall(r'status=~?"([^"$]*)"', text):
            assert set(words.split("|")) <= known, where


def test_panels_do_not_overlap() -> None:
    """On the grid of 24 columns."""
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    cells = [
        (x, y)
        for one in (panel["gridPos"] for panel in panels)
        for x in range(one["x"], one["x"] + one["w"])
        for y in range(one["y"], one["y"] + one["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


def test_destinations_above_the_limit_are_put_together() -> None:
    """Sums stay right; states and times of the others are left out, the first ones stay."""
    made = Metrics(max_destinations=2)
    for number, name in enumerate(("A", "B", "C", "D"), start=1):
        made.delivered(name, "sftp", sent=10 * number, took=1.0, waited=0.5)
        made.destination_state.labels(name, "idle").set(1)
        made.last_success.labels(name).set(1e9)
    for _ in range(2):
        text = made.text().decode()
        bytes_of = dict(
            re.findall(r'ecpds_transfer_bytes_total{destination="([^"]+)".*} ([0-9.]+)', text)
        )
        assert bytes_of == {"A": "10.0", "B": "20.0", OTHERS: "70.0"}
        assert text.count("ecpds_destination_state{") == 2
        assert text.count("ecpds_destination_last_success_timestamp_seconds{") == 2
    assert 'ecpds_transfer_queue_wait_seconds_count{protocol="sftp"} 4.0' in text


def test_a_counter_follows_one_that_begins_anew() -> None:
    made = Metrics()
    for value in (5, 5, 8, 2):  # 2: the broker was started again
        made.raise_to(made.mqtt_messages, "mqtt", value)
    made.waiting_publications.labels("waiting").set(3)
    text = made.text().decode()
    assert "# TYPE ecpds_mqtt_messages_total counter\necpds_mqtt_messages_total 10.0" in text
    assert '# TYPE ecpds_publications gauge\necpds_publications{state="waiting"} 3.0' in text

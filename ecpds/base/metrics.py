"""Counters and gauges of one node, in a registry of its own (rest-api.md B.6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

OTHERS: Final = "(others)"
"""Label of the destinations above `metrics.max_destinations` together."""


class Metrics:
    """Everything that `/metrics` tells."""

    def __init__(self, *, max_destinations: int = 500) -> None:
        registry = self.registry = CollectorRegistry()
        states = self.states = CollectorRegistry()  # a gauge named as a counter without its end
        self.max_destinations = max_destinations
        self._shown: set[str] = set()
        self._counted: dict[str, int] = {}
        self.finished = Counter(
            "ecpds_transfers_finished_total",
            "Attempts ended",
            ["destination", "protocol", "result"],
            registry=registry,
        )
        self.sent_bytes = Counter(
            "ecpds_transfer_bytes_total",
            "Bytes delivered",
            ["destination", "protocol", "result"],
            registry=registry,
        )
        self.duration = Histogram(
            "ecpds_transfer_duration_seconds", "One attempt", ["protocol"], registry=registry
        )
        self.queue_wait = Histogram(
            "ecpds_transfer_queue_wait_seconds",
            "From due to started",
            ["protocol"],
            buckets=(0.001, 0.01, 0.1, 1, 10, 60, 600, 3600),
            registry=registry,
        )
        self.transfers = Gauge(
            "ecpds_transfers", "Live transfers", ["destination", "status"], registry=registry
        )
        self.late = Gauge(
            "ecpds_transfers_late",
            "Transfers past their scheduled time, of monitored destinations",
            ["destination"],
            registry=registry,
        )
        self.acquisition_runs = Counter(
            "ecpds_acquisition_runs_total", "Discoveries", ["host", "result"], registry=registry
        )
        self.acquisition_files = Counter(
            "ecpds_acquisition_files_total", "Entries", ["host", "result"], registry=registry
        )
        self.retrievals = Counter(
            "ecpds_retrievals_total", "Files fetched", ["host", "result"], registry=registry
        )
        self.portal_sessions = Gauge(
            "ecpds_portal_sessions", "Sessions open", ["protocol"], registry=registry
        )
        self.portal_requests = Counter(
            "ecpds_portal_requests_total", "Uploads and downloads", ["protocol"], registry=registry
        )
        self.portal_bytes = Counter(
            "ecpds_portal_bytes_total", "Bytes", ["protocol", "direction"], registry=registry
        )
        self.logins = Counter(
            "ecpds_portal_logins_total", "Logins", ["protocol", "result"], registry=registry
        )
        self.storage_free = Gauge(
            "ecpds_storage_free_bytes", "Room above the reserve", ["volume"], registry=registry
        )
        self.storage_bytes = Gauge(
            "ecpds_storage_bytes", "Bytes stored", ["volume"], registry=registry
        )
        self.storage_files = Gauge(
            "ecpds_storage_files", "Objects stored", ["volume"], registry=registry
        )
        self.loop_lag = Gauge(
            "ecpds_event_loop_lag_seconds", "How late the loop is", registry=registry
        )
        self.store_writes = Counter(
            "ecpds_store_writes_total", "Write calls committed", registry=registry
        )
        self.store_waiting = Gauge("ecpds_store_waiting", "Writes that wait", registry=registry)
        self.events_written = Counter(
            "ecpds_events_written_total", "Event log lines", registry=registry
        )
        self.event_sinks = Counter(
            "ecpds_events_told_total", "Events told to sinks", ["sink", "result"],
            registry=registry,
        )  # fmt: skip
        self.mqtt_clients = Gauge("ecpds_mqtt_clients", "Clients connected", registry=registry)
        self.mqtt_messages = Counter(
            "ecpds_mqtt_messages_total", "Messages published", registry=registry
        )
        self.mqtt_dropped = Counter(
            "ecpds_mqtt_dropped_total", "Messages dropped from full queues", registry=registry
        )
        self.mqtt_retained = Gauge("ecpds_mqtt_retained", "Retained messages", registry=registry)
        self.webhooks = Counter(
            "ecpds_webhook_requests_total", "Requests to webhooks", ["result"], registry=registry
        )
        self.publications = Counter(
            "ecpds_publications_total", "Publications ended", ["result"], registry=registry
        )
        self.wis2_messages = Counter(
            "ecpds_wis2_messages_total", "WIS2 messages", ["direction"], registry=registry
        )
        self.wis2_invalid = Counter(
            "ecpds_wis2_invalid_total", "WIS2 messages found wrong", ["direction", "reason"],
            registry=registry,
        )  # fmt: skip
        self.wis2_lag = Gauge(
            "ecpds_wis2_lag_seconds", "From pubtime of the last message to its arrival", ["host"],
            registry=registry,
        )  # fmt: skip
        self.wis2_published = Gauge(
            "ecpds_wis2_last_publish_timestamp_seconds", "When the last WIS2 message was sent",
            registry=registry,
        )  # fmt: skip
        self.destination_state = Gauge(
            "ecpds_destination_state", "1 for the state that it is in", ["destination", "state"],
            registry=registry,
        )  # fmt: skip
        self.destination_light = Gauge(
            "ecpds_destination_light", "1 for the light that is on", ["destination", "light"],
            registry=registry,
        )  # fmt: skip
        self.last_success = Gauge(
            "ecpds_destination_last_success_timestamp_seconds", "When it got its last file",
            ["destination"], registry=registry,
        )  # fmt: skip
        self.last_discovery = Gauge(
            "ecpds_acquisition_last_run_timestamp_seconds", "When a discovery ended last", ["host"],
            registry=registry,
        )  # fmt: skip
        self.waiting_publications = Gauge(
            "ecpds_publications", "Publications", ["state"], registry=states
        )
        self.store_busy = Gauge(
            "ecpds_db_seconds", "Time that the writer of the store has worked", registry=registry
        )
        self.running = Gauge("ecpds_jobs", "Transfers that run now", registry=registry)
        self.certificate_expiry = Gauge(
            "ecpds_certificate_expiry_timestamp_seconds", "When the certificate ends",
            registry=registry,
        )  # fmt: skip
        self.build = Gauge("ecpds_build_info", "This release", ["version"], registry=registry)

        self._portal: dict[tuple[str, str], tuple[Counter, Counter]] = {}
        self._delivered: dict[tuple[str, str], tuple[Counter, Counter, Histogram, Histogram]] = {}

    def delivered(
        self, destination: str, protocol: str, *, sent: int, took: float, waited: float
    ) -> None:
        """Count a success; the look-up of labels costs more than counting, so it is kept."""
        found = self._delivered.get((destination, protocol))
        if found is None:
            found = self._delivered[destination, protocol] = (
                self.finished.labels(destination, protocol, "done"),
                self.sent_bytes.labels(destination, protocol, "done"),
                self.duration.labels(protocol),
                self.queue_wait.labels(protocol),
            )
        found[0].inc()
        found[1].inc(sent)
        found[2].observe(took)
        found[3].observe(waited)

    def raise_to(self, counter: Counter, name: str, value: int) -> None:
        """Let a counter follow one that is kept elsewhere, and may begin anew there."""
        before = self._counted.get(name, 0)
        counter.inc(value - before if value >= before else value)
        self._counted[name] = value

    def moved(self, protocol: str, direction: str, count: int) -> None:
        """Count an upload or download of a portal."""
        found = self._portal.get((protocol, direction))
        if found is None:
            found = self._portal[protocol, direction] = (
                self.portal_requests.labels(protocol),
                self.portal_bytes.labels(protocol, direction),
            )
        found[0].inc()
        found[1].inc(count)

    def text(self) -> bytes:
        """Return the Prometheus text form, with so many destinations as the settings allow."""
        return b"".join(
            generate_latest(_Bounded(one, self._shown, self.max_destinations))
            for one in (self.registry, self.states)
        )


class _Bounded(Collector):
    """A registry with the destinations above a number put together."""

    def __init__(self, registry: CollectorRegistry, shown: set[str], most: int) -> None:
        self._registry, self._shown, self._most = registry, shown, most

    def collect(self) -> Iterator[Metric]:
        """Yield the families; states and times of the others have no meaning, they are left out."""
        for family in self._registry.collect():
            if any("destination" in sample.labels for sample in family.samples):
                family.samples = list(self._bounded(family.samples))
            yield family

    def _bounded(self, samples: list[Sample]) -> Iterator[Sample]:
        sums: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        for sample in samples:
            if self._is_shown(sample.labels["destination"]):
                yield sample
            elif "state" in sample.labels or "light" in sample.labels or _is_time(sample.name):
                continue
            else:
                labels = {**sample.labels, "destination": OTHERS}
                key = sample.name, tuple(labels.items())
                sums[key] = sums.get(key, 0.0) + sample.value
        for (name, labels_of), value in sums.items():
            yield Sample(name, dict(labels_of), value)

    def _is_shown(self, name: str) -> bool:
        if name not in self._shown and len(self._shown) < self._most:
            self._shown.add(name)
        return name in self._shown


def _is_time(name: str) -> bool:
    return name.endswith(("_timestamp_seconds", "_created"))

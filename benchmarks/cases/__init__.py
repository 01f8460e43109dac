"""One file a case; `ALL` gives their order in the table."""

from __future__ import annotations

from benchmarks.cases import (
    backlog,
    clouds,
    discovery,
    flow,
    ftp,
    https,
    idle,
    modules,
    mqtt,
    mqtt_clients,
    mqtt_delivery,
    pages,
    s3,
    s3_portal,
    scale,
    sftp,
    startup,
    wis2_cache,
)
from benchmarks.scene import Case

ALL: tuple[Case, ...] = (
    Case(name="startup", share=45, open=startup.comparisons),
    Case(name="queue", share=110, open=backlog.comparisons),
    Case(name="discovery", share=45, open=discovery.comparisons),
    Case(name="queues", share=60, open=scale.queues),
    Case(name="listings", share=15, open=scale.listings),
    Case(name="fetching", share=20, open=scale.fetching),
    Case(name="pages", share=70, open=pages.comparisons),
    Case(name="flow", share=60, open=flow.comparisons),
    Case(name="https", share=115, open=https.comparisons),
    Case(name="ftp", share=100, open=ftp.comparisons),
    Case(name="sftp", share=110, open=sftp.comparisons),
    Case(name="idle", share=40, open=idle.comparisons),
    Case(name="s3", share=90, open=s3.comparisons),
    Case(name="s3_portal", share=75, open=s3_portal.comparisons),
    Case(name="modules", share=190, open=modules.comparisons),
    Case(name="clouds", share=75, open=clouds.comparisons),
    Case(name="mqtt", share=65, open=mqtt.comparisons),
    Case(name="mqtt_clients", share=60, open=mqtt_clients.comparisons),
    Case(name="mqtt_delivery", share=60, open=mqtt_delivery.comparisons),
    Case(name="wis2_cache", share=45, open=wis2_cache.comparisons),
)

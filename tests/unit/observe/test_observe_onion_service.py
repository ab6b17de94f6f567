"""How our onion service is doing, as metrics."""

from __future__ import annotations

from relay.observe.metrics import Metrics
from relay.observe.snapshot import MetricsSnapshot, TorView
from tests.unit.observe.conftest import Source

AGE = "pyrelay_onion_service_upload_age_seconds"


def test_uploads_their_failures_their_age_and_introduction_circuits_are_told(
    metrics: Metrics, source: Source
) -> None:
    source.now = MetricsSnapshot(tor=TorView(100, True, True, 8, 2, 61.5, 3))

    values = metrics.values()

    assert values["pyrelay_onion_service_uploads_total"] == 8
    assert values["pyrelay_onion_service_upload_failures_total"] == 2
    assert values[AGE] == 61.5
    assert values["pyrelay_onion_service_introductions"] == 3


def test_age_is_not_told_before_the_first_upload(metrics: Metrics) -> None:
    assert AGE not in metrics.text().decode()

import re

import pytest

from harness.metrics.catalogue import METRICS
from harness.metrics.reference import reference_text
from tests.paths import ROOT


def test_no_two_metrics_have_one_name():
    assert len({metric.name for metric in METRICS}) == len(METRICS) > 30


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_units_and_labels_agree(metric):
    assert re.fullmatch(r"harness_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    for suffix, unit in (("joules", "J"), ("watts", "W"), ("seconds", "s"), ("celsius", "°C"), ("tokens", "tokens")):
        if metric.name.removesuffix("_total").endswith(f"_{suffix}"):
            assert metric.unit == unit
    if metric.unit in ("J", "W"):
        assert {"source", "boundary"} <= set(metric.labels)
    assert metric.meaning.endswith(".")


def test_the_reference_is_in_step_with_the_metrics():
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert page == reference_text(), "make it anew: python -m harness.metrics.reference > docs/metrics.md"


def test_the_reference_names_every_metric_once():
    page = reference_text()
    assert all(page.count(f"| `{metric.name}` |") == 1 for metric in METRICS)

"""Gather the samples of one scrape under the definitions of their metrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric

from harness.metrics.catalogue import Definition


class Families:
    """The metrics of one scrape; what is not known is not added, so a metric without samples does not appear."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._by_name: dict[str, Metric] = {}

    def __iter__(self) -> Iterator[Metric]:
        """Yield what was gathered, each metric once."""
        return iter(self._by_name.values())

    def add(self, definition: Definition, value: float | None, **labels: str) -> None:
        """Add a sample of a gauge or counter, unless its value is not known."""
        if value is not None:
            self._family(definition, labels).add_sample(definition.name, labels, value)

    def add_mean(self, definition: Definition, count: float | None, total: float | None, **labels: str) -> None:
        """Add a sample of a summary without quantiles, unless its count or sum is not known."""
        if count is not None and total is not None:
            family = self._family(definition, labels)
            family.add_sample(f"{definition.name}_count", labels, count)
            family.add_sample(f"{definition.name}_sum", labels, total)

    def add_histogram(
        self, definition: Definition, bounds: Sequence[float], counts: Sequence[int], total: float, **labels: str
    ) -> None:
        """Add a histogram; ``counts`` are of each bucket by itself, with one more for what lies above all bounds."""
        family = self._family(definition, labels)
        for number, bound in enumerate([*map(str, bounds), "+Inf"]):
            family.add_sample(f"{definition.name}_bucket", labels | {"le": bound}, sum(counts[: number + 1]))
        family.add_sample(f"{definition.name}_count", labels, sum(counts))
        family.add_sample(f"{definition.name}_sum", labels, total)

    def _family(self, definition: Definition, labels: dict[str, str]) -> Metric:
        if set(labels) != set(definition.labels):
            raise ValueError(f"{definition.name} has the labels {definition.labels}, not {tuple(labels)}")
        name = definition.name.removesuffix("_total")
        return self._by_name.setdefault(name, Metric(name, definition.meaning, definition.kind))

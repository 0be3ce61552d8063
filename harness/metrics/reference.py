"""The reference of all metrics as a page: python -m harness.metrics.reference > docs/metrics.md"""

from __future__ import annotations

from harness.metrics.catalogue import METRICS, Definition

_HEAD = """# Metrics

What a run (`harness stress`, `harness sweep`) and `harness exporter` serve to Prometheus. This page is made by
`python -m harness.metrics.reference`; a test keeps it in step with the code. Names, labels and units are stable.

- **source** is where joules come from: `nvml`, `redfish`, `ipmi`, `hwmon`, `rapl`, `replay of ...`, `simulated`
  (invented), `eq1` (the prediction) or `node_profile` (P_max).
- **boundary** is the hardware that they cover: `gpu`, `node_modelled`, `node` (metered), `cpu_dram`, and with ` x PUE`
  the facility's share. Joules of two boundaries are never added.
- Counters start from zero with the run or the exporter, and go on over a restart of the server. Use `rate()` or
  `increase()`.
- What is not known is left out; it is never 0.
- `/servers`, at the same address, names the vLLM servers in use to Prometheus' HTTP service discovery, so that it
  scrapes their own metrics too: [how](deploy.md#how-vllm-is-found).
"""

_SECTIONS = {
    "both": ("Of a run and of a node", "Served by both."),
    "run": ("Of a run alone", "Served while `harness stress` or `harness sweep` goes on."),
    "node": ("Of a node alone", "Served by `harness exporter`."),
}


def reference_text() -> str:
    """Return the page."""
    sections = [_section(by, title, words) for by, (title, words) in _SECTIONS.items()]
    return "\n".join([_HEAD, *sections])


def _section(by: str, title: str, words: str) -> str:
    rows = "\n".join(_row(metric) for metric in METRICS if metric.by == by)
    return f"## {title}\n\n{words}\n\n| metric | type | labels | unit | meaning |\n|---|---|---|---|---|\n{rows}\n"


def _row(metric: Definition) -> str:
    labels = ", ".join(f"`{name}`" for name in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.unit} | {metric.meaning} |"


if __name__ == "__main__":
    print(reference_text(), end="")

"""The panels of the dashboard, from top to bottom: what each shows, in which unit, and how its series are called."""

from __future__ import annotations

from typing import Any, NamedTuple

HARNESS = 'instance=~"$instance"'
VLLM = 'instance=~"$vllm"'
OF = "{{source}}, {{boundary}}"
"""How a legend says where joules come from and what they cover."""


class Query(NamedTuple):
    """One expression and what its series are called."""

    expr: str
    legend: str


class Panel(NamedTuple):
    """One panel; ``width`` is of 24, ``options`` go into the panel as they are; ``now`` asks for the present alone."""

    title: str
    unit: str
    meaning: str
    queries: tuple[Query, ...]
    width: int = 12
    height: int = 8
    kind: str = "timeseries"
    most: float | None = None
    overrides: tuple[dict[str, Any], ...] = ()
    options: dict[str, Any] | None = None
    now: bool = False


class Row(NamedTuple):
    """A heading over the panels that follow."""

    title: str


def _override(pattern: str, **properties: Any) -> dict[str, Any]:
    named = [{"id": name, "value": value} for name, value in properties.items()]
    return {"matcher": {"id": "byRegexp", "options": pattern}, "properties": named}


def _fixed(colour: str) -> dict[str, str]:
    return {"mode": "fixed", "fixedColor": colour}


_SOURCES = (
    _override("^simulated.*", color=_fixed("red")),
    _override("^replayed.*", color=_fixed("orange")),
    _override("^measured.*", color=_fixed("green")),
)
_LIMITS = (_override(".*P_max.*", color=_fixed("text"), **{"custom.lineStyle": {"fill": "dash", "dash": [8, 8]}}),)
_NAMES_ONLY = {"textMode": "name", "colorMode": "background", "graphMode": "none", "justifyMode": "center"}
_VALUES = {"textMode": "value_and_name", "colorMode": "value", "graphMode": "area"}


def _quantiles(metric: str, *older: str) -> tuple[Query, ...]:
    """Return p50, p95 and p99 of a histogram of vLLM's, and the mean that the harness has from the same counters.

    Where vLLM has none of this name, one of its ``older`` names stands in.
    """

    def of(share: float, name: str) -> str:
        return f"histogram_quantile({share}, sum by (model_name, le) (rate(vllm:{name}_bucket{{{VLLM}}}[1m])))"

    quantiles = tuple(
        Query(
            " or ".join(of(share, name) for name in (metric, *older)), f"p{100 * share:.0f} {{{{model_name}}}} (vLLM)"
        )
        for share in (0.5, 0.95, 0.99)
    )
    return (
        *quantiles,
        Query(f"server:harness_{metric}:mean_rate1m{{{HARNESS}}}", "mean of server {{server}} (harness)"),
    )


PANELS: tuple[Panel | Row, ...] = (
    Panel(
        "Where the watts come from: simulated joules are invented, replayed ones are a recording", "none",
        "Every source of power in use and the hardware that it covers. Red: nothing with joules or watts on this page "
        "is a measurement.",
        (Query(f"max by (kind, source, boundary) (harness_power_source_info{{{HARNESS}}})", f"{{{{kind}}}}: {OF}"),),
        width=16, height=4, kind="stat", overrides=_SOURCES, options=_NAMES_ONLY,
    ),
    Panel(
        "Phase of the run", "none", "What the run is doing now; empty where only the exporter of the node runs.",
        (Query(f"harness_phase{{{HARNESS}}} == 1", "{{phase}}"),),
        width=8, height=4, kind="stat", options=_NAMES_ONLY, now=True,
    ),
    Row("Energy per query and per token"),
    Panel(
        "Energy per query by cell: measured, and predicted by Eq. 1 (P5, P50, P95 of the mean)", "watth",
        "Measured is the stored result of a finished cell with its 95% interval; live is J/token of the last minute "
        "times the mean output of the cell's workload. Compare series of one boundary only; eq1 is the prediction.",
        (
            Query(
                f'harness_query_energy_joules{{{HARNESS}, kind="predicted", stat=~"p5|p50|p95"}} / 3600',
                f"{{{{cell}}}} predicted {{{{stat}}}} ({OF})",
            ),
            Query(
                f'harness_query_energy_joules{{{HARNESS}, kind="measured"}} / 3600',
                f"{{{{cell}}}} measured {{{{stat}}}} ({OF})",
            ),
            Query(f"instance:harness_cell_query_energy_watt_hours:rate1m{{{HARNESS}}}", f"{{{{cell}}}} live ({OF})"),
        ),
        width=16, height=10,
    ),
    Panel(
        "Measured over predicted", "none",
        "Ratio of the two means at one boundary, by cell. 1 is agreement; a source that is simulated makes it a check "
        "of the plumbing.",
        (Query(f"cell:harness_query_energy:ratio{{{HARNESS}}}", f"{{{{cell}}}} ({OF})"),),
        width=8, height=10, kind="stat", options=_VALUES,
    ),
    Panel(
        "Energy per output token, last minute", "joule",
        "J/token: watts of each boundary over output tokens a second by the server's own counter.",
        (Query(f"instance:harness_token_energy_joules:rate1m{{{HARNESS}}}", f"{{{{instance}}}} ({OF})"),),
    ),
    Panel(
        "Energy per finished request, last 5 minutes, whoever sent it", "watth",
        "J/token times output tokens per finished request. Requests of all lengths; aborted ones are borne by the "
        "finished. In a run the panel above is the one to read.",
        (
            Query(
                f"instance:harness_finished_query_energy_watt_hours:rate5m{{{HARNESS}}}", f"{{{{instance}}}} ({OF})"
            ),
        ),
    ),
    Row("Throughput"),
    Panel(
        "Tokens a second", "suffix: tok/s", "By the servers' own counters, over all servers of an instance.",
        (
            Query(f"instance:harness_generated_tokens:rate1m{{{HARNESS}}}", "output ({{instance}})"),
            Query(
                f"sum by (instance) (rate(harness_prompt_tokens_total{{{HARNESS}}}[1m]))", "input ({{instance}})"
            ),
        ),
    ),
    Panel(
        "Requests a second", "reqps", "Finished by the servers, and those that the harness itself sent, by outcome.",
        (
            Query(
                f"sum by (instance) (rate(harness_finished_requests_total{{{HARNESS}}}[1m]))", "finished ({{instance}})"
            ),
            Query(f"rate(harness_requests_total{{{HARNESS}}}[1m])", "sent by the harness: {{outcome}}"),
        ),
    ),
    Panel(
        "Requests running and waiting", "none", "As the servers tell them.",
        (
            Query(f"harness_requests_running{{{HARNESS}}}", "running on {{server}} ({{instance}})"),
            Query(f"harness_requests_waiting{{{HARNESS}}}", "waiting for {{server}} ({{instance}})"),
        ),
        width=8,
    ),
    Panel(
        "KV cache in use", "percentunit", "Share of the KV cache, mean over the engines of a server.",
        (Query(f"harness_kv_cache_usage_ratio{{{HARNESS}}}", "server {{server}} ({{instance}})"),),
        width=8, most=1,
    ),
    Panel(
        "Preemptions a second", "suffix: /s", "Requests put off for want of KV: their work is done, and paid, twice.",
        (
            Query(f"rate(harness_preemptions_total{{{HARNESS}}}[1m])", "server {{server}} ({{instance}})"),
            Query(f"rate(vllm:num_preemptions_total{{{VLLM}}}[1m])", "{{model_name}} engine {{engine}} (vLLM)"),
        ),
        width=8,
    ),
    Panel(
        "Time to first token, last minute", "s", "Quantiles of vLLM's own histogram; the mean is of the same counts.",
        _quantiles("time_to_first_token_seconds"),
    ),
    Panel(
        "Time between tokens, last minute", "s", "Quantiles of vLLM's own histogram; the mean is of the same counts.",
        _quantiles("inter_token_latency_seconds", "time_per_output_token_seconds"),
    ),
    Row("Watts"),
    Panel(
        "Power by boundary, against 0.4, 0.7 and 0.9 of the node's P_max", "watt",
        "gpu: all GPUs in use, nothing while one of them does not answer. node_modelled: lifted by the node profile. "
        "node: metered. Eq. 1 takes a node to draw 0.4 to 0.9 of P_max; dashed lines are those shares of the profile's "
        "P_max.",
        (
            Query(
                f"sum by (instance, source, boundary) (harness_power_watts{{{HARNESS}}}) "
                f"unless on (instance, source, boundary) (harness_device_up{{{HARNESS}}} == 0)",
                f"{OF} ({{{{instance}}}})",
            ),
            Query(
                f"sum by (instance, source, boundary) (harness_node_power_watts{{{HARNESS}}})",
                f"{OF} ({{{{instance}}}})",
            ),
            *(
                Query(
                    f"{share} * max by (instance, source, boundary, node_profile) "
                    f"(harness_node_power_max_watts{{{HARNESS}}})",
                    f"{share} P_max of {{{{node_profile}}}} ({{{{instance}}}})",
                )
                for share in (0.4, 0.7, 0.9)
            ),
        ),
        width=16, height=10, overrides=_LIMITS,
    ),
    Panel(
        "Modelled node power as a share of P_max", "percentunit",
        "Eq. 1 takes 40% to 90%, 70% in the middle.",
        (Query(f"instance:harness_node_power:ratio{{{HARNESS}}}", f"{OF} ({{{{instance}}}})"),),
        width=8, height=10, kind="gauge", most=1, now=True,
    ),
    Panel(
        "Power by device", "watt", "As each sensor tells it.",
        (Query(f"harness_power_watts{{{HARNESS}}}", f"{{{{device}}}} ({OF})"),),
    ),
    Panel(
        "Energy counter against integral of power, last minute", "watt",
        "Mean watts by the device's own energy counter and by integrating its power. One sensor feeds both: agreement "
        "says nothing of its gain.",
        (
            Query(
                f"rate(harness_energy_accumulated_joules_total{{{HARNESS}}}[1m])", f"counter of {{{{device}}}} ({OF})"
            ),
            Query(
                f"rate(harness_energy_integrated_joules_total{{{HARNESS}}}[1m])", f"integral of {{{{device}}}} ({OF})"
            ),
        ),
    ),
    Row("Whether to believe it"),
    Panel(
        "Integral over counter, less 1, last 5 minutes", "percentunit", "Beyond 3% a cell is suspect.",
        (Query(f"device:harness_integral_difference:ratio_rate5m{{{HARNESS}}}", f"{{{{device}}}} ({OF})"),),
        width=8,
    ),
    Panel(
        "Throttled share of time, by cause", "percentunit",
        "Causes overlap. A power cap is how saturated GPUs run; heat and slowdowns from outside are faults.",
        (
            Query(
                f"device_cause:harness_gpu_throttled:ratio_rate1m{{{HARNESS}}}", "{{device}} {{cause}}"
            ),
        ),
        width=8, most=1,
    ),
    Panel(
        "Temperature", "celsius", "Of each GPU.",
        (Query(f"harness_gpu_temperature_celsius{{{HARNESS}}}", "{{device}}"),),
        width=8,
    ),
    Panel(
        "Power readings missed", "suffix: /s", "The sampler came too late. Of GPUs ten readings a second are due.",
        (Query(f"instance:harness_power_samples_missed:rate5m{{{HARNESS}}}", "missed ({{instance}})"),),
        width=4,
    ),
    Panel(
        "Power readings that failed", "percentunit", "Something in the reading failed. Beyond 5% a cell is suspect.",
        (Query(f"device:harness_power_reading_errors:ratio_rate5m{{{HARNESS}}}", f"{{{{device}}}} ({OF})"),),
        width=4,
    ),
    Panel(
        "Devices and servers that answer", "none", "1 answers, 0 does not.",
        (
            Query(f"harness_device_up{{{HARNESS}}}", f"{{{{device}}}} ({OF})"),
            Query(f"harness_server_up{{{HARNESS}}}", "server {{server}} ({{instance}})"),
        ),
        width=8, most=1,
    ),
    Panel(
        "Load client: lateness of its event loop (p99)", "s",
        "Beyond 0.05 s the client, not the server, may set the pace.",
        (Query(f"client:harness_client_event_loop_lag_seconds:p99_rate1m{{{HARNESS}}}", "client {{client}}"),),
        width=4,
    ),
    Panel(
        "Load client: share of a core", "percentunit", "Beyond 80% the client, not the server, may set the pace.",
        (Query(f"client:harness_client_cpu:ratio_rate1m{{{HARNESS}}}", "client {{client}}"),),
        width=4,
    ),
)  # fmt: skip

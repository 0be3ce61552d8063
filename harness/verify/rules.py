"""The rules of ``harness verify``, in the order they are printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from harness.verify import compared, figures, judged, record
from harness.verify.checks import Check, Finding, Rule, by_cell, by_window
from harness.verify.evidence import Evidence

NO_WINDOW = "no cell has a window with such figures"
NO_PREDICTION = "the run has no prediction"
NO_HASHES = "the run has no hashes.json"
NO_JOULES = "no cell has an energy per token"
NO_PAIR = "the run has no pair of a plain and a multiplied cell"


def _listed(check: Callable[[Evidence], Iterable[Check]]) -> Callable[[Evidence], list[Check]]:
    return lambda evidence: list(check(evidence))


RULES = (
    Rule("schemas", "every document can be read by its schema", _listed(record.schemas), "no document"),
    Rule("hashes", "no file has changed since the run ended", record.hashes, NO_HASHES),
    Rule("cells", "every cell of the log is reported, as defined before its load", record.cells, "no cell"),
    Rule(
        "prediction_first",
        "the prediction was stored before the first cell compared with it, and has not changed",
        _listed(record.prediction_came_first),
        NO_PREDICTION,
    ),
    Rule(
        "prediction",
        "each predicted mean is Eq. 1 of its stored inputs; their means are those of their distributions",
        compared.prediction_by_hand,
        NO_PREDICTION,
    ),
    Rule(
        "prediction_reported",
        "predictions are reported as stored",
        by_cell(compared.prediction_as_stored),
        NO_PREDICTION,
    ),
    Rule(
        "windows",
        "windows lie under load, after fill and warm-up, and begin and end at scrapes",
        by_window(record.windows),
        NO_WINDOW,
    ),
    Rule("boundaries", "every cell says boundary and source of its joules", by_cell(record.boundary_labels), "no cell"),
    Rule("simulated", "simulated joules are called so everywhere", record.simulated_said, "no simulated power"),
    Rule("tps", "TPS is tokens over the window's time", by_window(figures.throughput), NO_WINDOW),
    Rule(
        "watts",
        "watts are the counters' difference, else integrated power, lifted to the boundary, within 0.5%",
        by_window(figures.watts),
        NO_WINDOW,
    ),
    Rule(
        "counter_integral",
        "counter and integrated power over 3% apart are reported",
        by_window(figures.counter_and_integral),
        "no GPU has both a counter and power readings over a window",
    ),
    Rule("meters", "watts of every meter beside the source", by_window(figures.meters), "the run has no further meter"),
    Rule(
        "joules_per_token",
        "J/token is joules over tokens, within its interval",
        by_cell(figures.energy_per_token),
        NO_JOULES,
    ),
    Rule("changes", "a line through each rate changes as reported", by_window(figures.changes), NO_WINDOW),
    Rule(
        "random_error",
        "the random error and J/token's interval are those of batch means",
        by_window(figures.random_error),
        NO_JOULES,
    ),
    Rule(
        "uncertainty", "the parts of the uncertainty add up in quadrature", by_cell(figures.combined_error), NO_JOULES
    ),
    Rule("wh_per_query", "Wh/query is Eq. 1 of what was measured", by_cell(figures.measured_eq1), NO_JOULES),
    Rule("ratio", "the ratio is measured over predicted", by_cell(compared.ratio), NO_PREDICTION),
    Rule(
        "split",
        "the terms of the split are re-derived and add up to ln of the ratio",
        by_cell(compared.split),
        NO_PREDICTION,
    ),
    Rule(
        "tokens",
        "usage <= counter <= usage plus what others asked for, or a mismatch is reported",
        by_cell(judged.token_check),
        "no cell",
    ),
    Rule("requests", "requests are counted by outcome", by_cell(figures.request_counts), "no cell"),
    Rule(
        "latencies",
        "latencies are those of the streamed requests due in the window",
        by_window(figures.latencies),
        NO_WINDOW,
    ),
    Rule(
        "gauges", "queue, KV usage, preemptions and utilisation over the window", by_window(figures.gauges), NO_WINDOW
    ),
    Rule(
        "saturation",
        "saturation is shown, or called unproven",
        by_window(judged.saturation),
        "no cell is to be saturated",
    ),
    Rule(
        "config_limited",
        "a batch limit that holds throughput down is reported",
        by_window(judged.config_limited),
        "max_num_seqs binds in no cell",
    ),
    Rule("steadiness", "changes beyond 2% and missed precision are reported", by_cell(judged.steadiness), NO_WINDOW),
    Rule("reasons", "what the record shows to be wrong is a reason", by_cell(judged.reasons_of_facts), "no cell"),
    Rule("known_reasons", "every reason code is known", judged.known_reasons, "no cell"),
    Rule("verdict", "verdicts follow from reasons", by_cell(judged.verdict), "no cell"),
    Rule("idle", "idle watts are those of the idle phase", figures.idle, "the run has no idle phase"),
    Rule("energy_ratio", "the energy ratio is that of its pairs of cells", compared.energy_ratio, NO_PAIR),
    Rule("ratio_verdict", "the energy ratio has the worst verdict of its cells", judged.ratio_verdict, NO_PAIR),
)


def apply_rules(evidence: Evidence) -> tuple[Finding, ...]:
    """Return what every rule finds of a run."""
    return tuple(rule.find(evidence) for rule in RULES)

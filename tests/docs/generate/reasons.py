"""The page of verdicts and reason codes: what each means, and what to do."""

from __future__ import annotations

from harness.verify.judged import DOUBTFUL, FATAL
from results.report.reasons import REASONS, VERDICTS
from tests.docs.generate.markdown import MADE, table

_HEAD = f"""# Verdicts and reason codes

{MADE} How to read them: [guide.md](guide.md#verdict).
A cell without any reason is `valid`; with only reasons of the second table `suspect`; with one of the first `invalid`.
Idle phases carry the same codes."""

LONGER = "give it more time: `--budget`, or shorter requests"
QUIET = "keep others off the machine; look at [the report's](guide.md#the-report) watts and TPS over time"
DRIVER = "look at the kernel log (`dmesg`), then at `harness doctor`"

REMEDIES = {
    "gpu_lost": DRIVER,
    "sensor_error": DRIVER,
    "sensor_stuck": "update the driver or the meter's firmware; read another meter beside it (`--node-meter`)",
    "counter_reset": "measure again; if it returns, the driver was reloaded or the GPU reset meanwhile",
    "window_not_covered": "measure again, with fewer other processes on the node's CPUs",
    "no_window": LONGER,
    "no_steady_state": LONGER + "; the code beside it says what moved",
    "no_tokens": "read `server-*.log` in the run folder",
    "server_lost": "read the end of `server-*.log` in the run folder",
    "interrupted": "measure again; a sweep goes on with `--resume`",
    "too_many_errors": "read the errors in `requests/` and `server-*.log`",
    "lengths_not_forced": "serve with vLLM, or with a server that honours `ignore_eos` and `min_tokens`",
    "lengths_as_served": "compare by J/token, or serve with vLLM, which lets lengths be forced",
    "usage_incomplete": LONGER,
    "token_count_mismatch": "let nobody else use the server; with a proxy between, give the servers' own addresses",
    "drift": f"{LONGER}; {QUIET}",
    "level_shift": f"{QUIET}; a clock or power setting that changed does this too",
    "cohorts_in_step": LONGER,
    "rate_collapses": "lower `--concurrency`, or give the server more KV cache",
    "steadiness_unproven": LONGER,
    "window_too_short": LONGER,
    "autocorrelation_too_long": LONGER,
    "ramp_not_over": LONGER,
    "precision_not_reached": f"{LONGER}; or ask for less with `--precision`, and say so",
    "saturation_unproven": "leave `--concurrency` at `auto`, or raise it",
    "config_limited": "raise vLLM's limit: `--server-arg=--max-num-seqs=N`",
    "client_bound": "more load processes (`--clients`), a smaller `--stream-share`, or fewer other processes",
    "power_gap": "measure again, with fewer other processes on the node's CPUs",
    "counter_integral_disagree": "read a second meter (`--node-meter`); power that swings fast is sampled too coarsely",
    "meter_silent": "`harness doctor` says whether the meter can be read",
    "meter_stale": "choose a meter that refreshes more often, or a longer window",
    "hardware_throttled": "cool the node; the report shows which cause, and for how long",
    "ecc_uncorrected": "take the GPU out of service",
    "xid_error": DRIVER,
    "power_limit_changed": "set the limit before the run and leave it",
    "foreign_processes": "have the GPUs to yourself; `harness doctor` lists who else is there",
    "gpu_unused": "name those that the server uses with `--gpu`",
}


def reasons_page() -> str:
    """Return the page."""
    verdicts = "\n".join(f"- `{verdict}`: {words}" for verdict, words in VERDICTS.items())
    sections = [_section("What makes a cell invalid", FATAL), _section("What makes a cell suspect", DOUBTFUL)]
    return "\n\n".join([_HEAD, verdicts, *sections]) + "\n"


def _section(title: str, codes: frozenset[str]) -> str:
    rows = [(f"`{code}`", REASONS[code], REMEDIES[code]) for code in REASONS if code in codes]
    return f"## {title}\n\n" + table(("code", "meaning", "what to do"), rows)

"""What a person reads of a resolved plan."""

from __future__ import annotations

from math import ceil, sqrt

from estimator.paired import Z_95
from harness.analysis.objections import MAX_CHANGE
from harness.analysis.steady import MIN_BATCHES
from harness.budget import ERRORS_IN_MAX_CHANGE, Need, largest_concurrency, mean_request_s, shortest_window_s
from harness.plan import Plan
from harness.prediction import TpsSource, find_tps_source
from harness.server.monitor import SCRAPE_PERIOD_S
from workloads.prompts import RANDOM


def plan_lines(plan: Plan, cells: str | None = None) -> list[str]:
    """Return the resolved plan, a line per decision; ``cells`` says what is measured if not the two of a stress run."""
    config, timing = plan.config, plan.timing
    if plan.model is None:
        server = f"running server(s): {', '.join(config.url)}"
    else:
        width = f" on {plan.model.tensor_parallel} GPU(s) each" if plan.devices else " on the CPU"
        server = f"{plan.replicas} x vLLM{width}; model {plan.model.model} ({plan.model.why})"
    power = f"{plan.power} ({plan.power_why})"
    if plan.power == "simulated":
        simulated = "the watts of the GPUs" if plan.boundary == "node" else "every joule of this run"
        power += f" - NOT a measurement: {simulated} will be simulated"
    profile = f"{plan.profile.name}, {plan.node_share:.3g} of it" if plan.profile else "none"
    concurrency = "searched for each cell" if config.concurrency == "auto" else str(config.concurrency)
    return [
        f"server        {server}",
        f"workload      {plan.workload.name}: {plan.workload.description}; prompts {_prompts(plan)}",
        *(f"              {line}" for line in _recorded(plan)),
        f"cells         {cells or _visits(plan)}; concurrency {concurrency}",
        f"power         {power}",
        f"boundary      {plan.boundary}; node profile {profile}; allocation {config.allocation}; "
        f"meters {', '.join(config.node_meter) or 'none'}",
        f"idle          {_idle(plan)}",
        f"load          {_load(plan)}; the first {timing.warmup_s:g} s of each are warm-up",
        f"window        {_expected_window(plan)}",
        *(f"              {line}" for line in _expected_requests(plan) if cells is None),
        f"precision     {_reachable_precision(plan)}",
        f"errors        {_expected_precision(plan)}",
        f"prediction    {_prediction(plan, calibrates=cells is None)}",
        f"results       {config.out}",
    ]


def _prompts(plan: Plan) -> str:
    return RANDOM.kind if plan.text is None else plan.text.kind


def _recorded(plan: Plan) -> list[str]:
    """Say what of a trace is used as load, and what of it is not."""
    origin = plan.workload.definition()
    if "trace_sample" not in origin:
        return []
    sample, left_out = origin["trace_sample"], sum(origin["trace_unusable"].values())
    lines = [f"lengths: {sample['requests']:,} of {sample['of']:,} requests, {sample['rule']}"]
    lines[0] += f"; {left_out:,} rows left out as no load" if left_out else ""
    if (times := plan.arrivals) is not None:
        rate = "" if times["rate_per_s"] is None else f" at {times['rate_per_s']:.3g} requests/s"
        if times["saturation_share"] is not None:
            rate = f" at {times['saturation_share']:.4g} of the rate that saturates the server"
        lines.append(f"times: {times['requests']:,} of {times['of']:,} requests{rate}, {times['rule']}")
    return lines


def _idle(plan: Plan) -> str:
    loaded = f"loaded idle {plan.timing.idle_s:g} s"
    if plan.no_bare_idle is not None:
        return f"{loaded}; bare idle unknown: {plan.no_bare_idle}"
    return f"bare idle {plan.timing.idle_s:g} s before launch, {loaded}"


def _visits(plan: Plan) -> str:
    once = ", ".join(name for name, _ in plan.visits)
    repeats = plan.config.repeats
    return once if repeats == 1 else f"{once}; {repeats} times on servers started anew, every second time in reverse"


def _load(plan: Plan) -> str:
    timing = plan.timing
    if timing.job_s is None:
        return f"at most {timing.budget_s:g} s a cell"
    return (
        f"at most {timing.budget_s:g} s a cell, or more where the search shows that a valid window needs it, as far as "
        f"{timing.job_s / 60:g} minutes for the whole job allow"
    )


def _longest_window_s(plan: Plan) -> float:
    """Return what is left of the budget once the warm-up is over."""
    return plan.timing.budget_s - plan.timing.warmup_s


def _expected_window(plan: Plan) -> str:
    """Say what the budget leaves for the window, and how long requests may be for it."""
    longest_s, least_s = _longest_window_s(plan), shortest_window_s(plan.timing.min_window_s, SCRAPE_PERIOD_S)
    if longest_s < least_s:
        return f"AT MOST {longest_s:g} s, less than the {least_s:g} s asked for: expect window_too_short"
    fits_s = Need(None, plan.timing.warmup_s, least_s).longest_request_s(plan.timing.budget_s)
    more = "; longer ones get more" if plan.timing.job_s else "; longer ones end window_too_short"
    return f"{least_s:g} to {longest_s:g} s, enough for {MIN_BATCHES} requests of up to {fits_s:.3g} s on average{more}"


def _expected_requests(plan: Plan) -> list[str]:
    """Say how long the requests of each cell will be, or how many may be in flight, where throughput is foretold."""
    source = _tps_source(plan)
    if source.model is None:
        return ["how long they take is not known before they are served; what each cell needs is said before its load"]
    lines, least_s = [], shortest_window_s(plan.timing.min_window_s, SCRAPE_PERIOD_S)
    for name, multiplier in plan.cells:
        lengths = plan.workload.lengths(multiplier)
        tps = source.model.mixed_tps_tok_per_s(lengths)
        said = f"{name}: {lengths.mean_output_tok:,.0f} tokens on average at {tps:,.0f} tok/s ({source.text})"
        concurrency = plan.config.concurrency
        if not isinstance(concurrency, int):
            fits_s = Need(None, plan.timing.warmup_s, least_s).longest_request_s(plan.timing.budget_s)
            most = largest_concurrency(fits_s, lengths.mean_output_tok, tps)
            lines.append(f"{said}: {plan.timing.budget_s:g} s suffice for up to {most:,} in flight")
            continue
        need = Need(mean_request_s(concurrency, lengths.mean_output_tok, tps), plan.timing.warmup_s, least_s)
        lacks = need.seconds > plan.timing.budget_s and plan.timing.job_s is None
        short = f", THE BUDGET IS TOO SHORT, expect window_too_short: --budget {ceil(need.seconds)}" if lacks else ""
        takes = f"a request takes {need.request_s:.3g} s, a valid window {need.seconds:.0f} s of load"
        lines.append(f"{said}: {takes}{short}")
    return lines


def _tps_source(plan: Plan) -> TpsSource:
    """Return where a prediction's TPS would come from; of running servers the model is not known yet."""
    return find_tps_source(plan, "" if plan.model is None else plan.model.model)


def _prediction(plan: Plan, *, calibrates: bool) -> str:
    """Say whether predicted figures will stand beside measured ones, and on what TPS they rest."""
    source = _tps_source(plan)
    if source.calibrate:
        said = "Eq. 1 with TPS calibrated on this server" if calibrates else "none: a sweep calibrates nothing"
        return said if plan.model else f"{said}, unless Supplemental I has rows of the model served"
    if source.model is None:
        return source.text.replace("no prediction:", "none:")
    return f"Eq. 1 with TPS from {source.text}"


def _reachable_precision(plan: Plan) -> str:
    """Say how steady throughput must be for the target to be reached: how steady it is, the search measures."""
    window_s, target = _longest_window_s(plan), plan.config.precision
    if window_s <= 0:
        return "none: the warm-up takes all of the budget"
    by_target, by_change = (error * sqrt(window_s) for error in (target / Z_95, MAX_CHANGE / ERRORS_IN_MAX_CHANGE))
    return (
        f"J/token to +-{target:.1%} (95%, random part) in {window_s:g} s if means of 1 s scatter by less than "
        f"{by_target:.1%} and know nothing of each other; shown to be steady, which valid asks for, below "
        f"{by_change:.1%}; how far they scatter is measured by the search"
    )


def _expected_precision(plan: Plan) -> str:
    """What is known beforehand of the error: the systematic part, at 0.6 of the node's maximum power."""
    random = "random part from the batches of each window, measured"
    if plan.power == "simulated" and plan.boundary != "node":
        return f"{random}; simulated joules have no sensor error and prove nothing about real ones"
    if plan.profile is None or plan.boundary == "gpu":
        return f"sensor gain 2.9% (standard), {random}"
    if plan.boundary == "node":
        return f"accuracy of the meter as it states it, {random}"
    node_w = 600 * plan.profile.p_max_share_kw(plan.node_share)
    gpu_w = (node_w - plan.profile.node_watts(0.0, plan.node_share)) / plan.profile.slope
    model_w = plan.profile.node_watts_std(gpu_w, plan.node_share)
    said = "of unknown accuracy" if model_w is None else f"{model_w / node_w:.1%}"
    return f"sensor gain 2.9%, node model {said} (standard, at 0.6 P_max), {random}"

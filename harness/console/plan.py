"""What a person reads of a resolved plan."""

from __future__ import annotations

from harness.analysis.steady import MIN_BATCHES, expected_half_width_rel
from harness.plan import Plan
from harness.server.monitor import SCRAPE_PERIOD_S


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
        power += " - NOT a measurement: every joule of this run will be simulated"
    profile = f"{plan.profile.name}, {plan.node_share:.3g} of it" if plan.profile else "none"
    concurrency = "searched for each cell" if config.concurrency == "auto" else str(config.concurrency)
    return [
        f"server        {server}",
        f"workload      {plan.workload.name}: {plan.workload.description}",
        f"cells         {cells or _visits(plan)}; concurrency {concurrency}",
        f"power         {power}",
        f"boundary      {plan.boundary}; node profile {profile}; allocation {config.allocation}; "
        f"meters {', '.join(config.node_meter) or 'none'}",
        f"load          at most {timing.budget_s:g} s a cell, the first {timing.warmup_s:g} s of it warm-up",
        f"window        {_expected_window(plan)}",
        f"precision     {_expected_precision(plan)}",
        f"results       {config.out}",
    ]


def _visits(plan: Plan) -> str:
    once = ", ".join(name for name, _ in plan.visits)
    repeats = plan.config.repeats
    return once if repeats == 1 else f"{once}; {repeats} times on servers started anew, every second time in reverse"


def _expected_window(plan: Plan) -> str:
    """Say what the budget leaves for the window, how well that tells J/token, and how long requests may be for it."""
    timing, target = plan.timing, plan.config.precision
    longest_s = timing.budget_s - timing.warmup_s
    if longest_s < timing.min_window_s:
        return f"AT MOST {longest_s:g} s, less than the {timing.min_window_s:g} s asked for: expect window_too_short"
    reachable = expected_half_width_rel(longest_s, SCRAPE_PERIOD_S)
    text = (
        f"{timing.min_window_s:g} to {longest_s:g} s, enough for requests of up to {longest_s / MIN_BATCHES:.3g} s; "
        f"J/token then known to about +-{reachable:.1%} (95%, random part, if throughput varies by 10% from scrape "
        f"to scrape), target +-{target:.1%}"
    )
    return text if reachable <= target else f"{text}: THE BUDGET IS TOO SHORT for it, expect precision_not_reached"


def _expected_precision(plan: Plan) -> str:
    """What is known beforehand of the error: the systematic part, at 0.6 of the node's maximum power."""
    random = "random part from the batches of each window, measured"
    if plan.power == "simulated":
        return f"{random}; simulated joules have no sensor error and prove nothing about real ones"
    if plan.profile is None or plan.boundary == "gpu":
        return f"sensor gain 2.9% (standard), {random}"
    if plan.boundary == "node":
        return f"accuracy of the meter as it states it, {random}"
    node_w = 600 * plan.profile.p_max_share_kw(plan.node_share)
    gpu_w = (node_w - plan.profile.node_watts(0.0, plan.node_share)) / plan.profile.slope
    model = plan.profile.node_watts_std(gpu_w, plan.node_share) / node_w
    return f"sensor gain 2.9%, node model {model:.1%} (standard, at 0.6 P_max), {random}"

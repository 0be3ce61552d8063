"""What a person reads of a resolved plan."""

from __future__ import annotations

from harness.plan import Plan


def plan_lines(plan: Plan) -> list[str]:
    """Return the resolved plan, a line per decision."""
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
        f"cells         {', '.join(name for name, _ in plan.cells)}; concurrency {concurrency}",
        f"power         {power}",
        f"boundary      {plan.boundary}; node profile {profile}",
        f"load          {timing.budget_s:g} s a cell, the first {timing.warmup_s:g} s of it warm-up",
        f"precision     {_expected_precision(plan)}",
        f"results       {config.out}",
    ]


def _expected_precision(plan: Plan) -> str:
    """What is known beforehand of the error: the systematic part, at 0.6 of the node's maximum power."""
    random = "random part from the batches of each window, measured"
    if plan.power == "simulated":
        return f"{random}; simulated joules have no sensor error and prove nothing about real ones"
    if plan.profile is None or plan.boundary == "gpu":
        return f"sensor gain 2.9% (standard), {random}"
    node_w = 600 * plan.profile.p_max_share_kw(plan.node_share)
    gpu_w = (node_w - plan.profile.node_watts(0.0, plan.node_share)) / plan.profile.slope
    model = plan.profile.node_watts_std(gpu_w, plan.node_share) / node_w
    return f"sensor gain 2.9%, node model {model:.1%} (standard, at 0.6 P_max), {random}"

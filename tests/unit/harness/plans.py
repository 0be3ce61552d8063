"""Small plans made by hand."""

from __future__ import annotations

import math

from estimator.nodes import load_profile
from estimator.throughput.tps import TpsModel
from harness.config import StressConfig
from harness.plan import Plan, Timing
from harness.power.base import DeviceIdentity
from workloads.spec import load_workload

H100 = "NVIDIA H100 80GB HBM3"
H100_B = 85_520_809_984


def gpus(count, name=H100, memory_b=H100_B):
    return tuple(
        DeviceIdentity(f"GPU-{number}", name, index=number, memory_total_b=memory_b) for number in range(count)
    )


def plan_of(devices=(), *, boundary="node_modelled", profile="simulated-node", tps_model=None, **config):
    profile = None if profile is None else load_profile(profile)
    return Plan(
        config=StressConfig(**config),
        workload=load_workload("traditional"),
        model=None,
        replica_gpus=(devices,),
        devices=devices,
        power="nvml" if devices else "simulated",
        power_why="asked for",
        boundary=boundary,
        profile=profile,
        node_share=1.0 if profile is None else profile.share(max(1, len(devices))),
        timing=Timing(30, 6, 8, 4, 5, 0),
        tps_model=tps_model,
    )


def constant_tps(tps=1_000.0, gpus=1):
    """A throughput model that is the same at every length."""
    return TpsModel(
        model="m", form="constant", coef=(math.log(tps),), cov=None, residual_sd_log=None, dof=0,
        cap_tok_per_s=None, n_rows=1, gpus=gpus, input_range_tok=(1, 10_000), output_range_tok=(1, 100_000),
        source="made up",
    )  # fmt: skip

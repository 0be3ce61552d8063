"""Node profiles: what a whole node draws, from the power of its GPUs.

A profile is a YAML file; the shipped ones lie in ``data/nodes``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from estimator.names import unknown_name_error


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"'{pattern}' is not a regular expression: {error}") from error
    return pattern


_Pattern = Annotated[str, AfterValidator(_compiles)]

Allocation = Literal["share", "marginal", "whole"]
"""Who bears what a node's unused GPUs and its fixed power draw: see ``NodeProfile.allocated_idle_w``."""


class NodeProfile(BaseModel):
    """A kind of node and its linear power model, P_node = offset + slope * sum of GPU power."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="name by which the profile is asked for")
    simulated: bool = Field(description="whether the node is invented, for trials without a power sensor")
    gpu_name_patterns: tuple[_Pattern, ...] = Field(
        min_length=1,
        description="regular expressions, one of which finds a match in the NVML name of the node's GPUs",
    )
    published_gpu_names: dict[str, str] = Field(
        {}, description="names of the GPU in published tables that leave its variant open, and the variant assumed"
    )
    gpu_count: PositiveInt = Field(description="GPUs in the whole node")
    gpu_limit_w: PositiveFloat | None = Field(None, description="default power limit of one GPU in W; null if unknown")
    p_max_kw: PositiveFloat = Field(description="maximum power of the whole node in kW")
    p_idle_kw: PositiveFloat = Field(description="power of the whole node without load in kW")
    offset_kw: NonNegativeFloat = Field(description="power of the whole node that does not follow its GPUs in kW")
    slope: PositiveFloat = Field(description="watts of the node per watt of its GPUs")
    u_offset_kw: NonNegativeFloat | None = Field(description="standard uncertainty of offset_kw in kW; null if unknown")
    u_slope: NonNegativeFloat | None = Field(description="standard uncertainty of slope; null if unknown")
    u_idle_kw: NonNegativeFloat | None = Field(None, description="standard uncertainty of p_idle_kw in kW, if known")
    correlation: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        description="correlation of offset_kw and slope; null if their uncertainties are unknown"
    )
    calibrated_gpu_uuids: tuple[str, ...] = Field(
        (), description="GPUs whose own sensors the slope was fitted against, so that it holds their gain"
    )
    source: str = Field(min_length=1, description="where the figures come from")

    @model_validator(mode="after")
    def _known_together(self) -> NodeProfile:
        if len({value is None for value in (self.u_offset_kw, self.u_slope, self.correlation)}) > 1:
            raise ValueError("u_offset_kw, u_slope and correlation must be known together or not at all")
        return self

    def share(self, gpus_used: int) -> float:
        """Return ``gpus_used`` as a share of the node's GPUs; raises ValueError outside 1 to all of them."""
        if not 1 <= gpus_used <= self.gpu_count:
            raise ValueError(f"node profile {self.name} has {self.gpu_count} GPUs, {gpus_used} cannot be used")
        return gpus_used / self.gpu_count

    def node_watts(self, gpu_sum_w: float, share: float = 1.0, allocation: Allocation = "share") -> float:
        """Return the node power in W charged to GPUs that draw ``gpu_sum_w`` and are ``share`` of the node's.

        It is share * offset + slope * ``gpu_sum_w``, and what ``allocation`` adds of the node's idle power.
        """
        return share * self.offset_kw * 1000 + self.slope * gpu_sum_w + self.allocated_idle_w(share, allocation)

    def node_watts_std(self, gpu_sum_w: float, share: float = 1.0) -> float | None:
        """Return the standard uncertainty in W of ``node_watts`` from offset and slope, or None where unknown.

        >>> round(load_profile("hgx-h100").node_watts_std(4000))
        120
        """
        return self.model_std(share * 1000, gpu_sum_w)

    def model_std(self, per_offset_kw: float, per_slope: float) -> float | None:
        """Return the standard uncertainty of what changes this much per kW of offset and per unit of slope.

        JCGM 100, eq. 16, with their correlation. None where the model's uncertainties are unknown.
        """
        if self.u_offset_kw is None or self.u_slope is None or self.correlation is None:
            return None
        by_offset, by_slope = per_offset_kw * self.u_offset_kw, per_slope * self.u_slope
        variance = by_offset**2 + by_slope**2 + 2 * self.correlation * by_offset * by_slope
        return math.sqrt(max(variance, 0.0))

    def gpu_gain_rel_u(self, sensor_rel_u: float | None, gpu_uuids: Collection[str]) -> float | None:
        """Return the relative standard uncertainty that the gain of the GPUs' sensors brings to ``node_watts``.

        Fitted against these very sensors, the slope is that of the node over their gain, and the two cancel: then it
        is 0. Some of the calibrated GPUs alone need not have the gain of all of them.
        """
        fitted_against = bool(self.calibrated_gpu_uuids) and set(gpu_uuids) == set(self.calibrated_gpu_uuids)
        return 0.0 if fitted_against else sensor_rel_u

    def allocated_idle_w(self, share: float, allocation: Allocation) -> float:
        """Return the idle power in W that an allocation adds to the node power of ``share`` of the GPUs.

        ``share`` charges that share of the offset and the used GPUs' own power, so it adds nothing. ``whole`` also
        charges the idle power of the rest of the node, and ``marginal`` only what the node draws above idle:
        with n of N GPUs in use and an unused one at idle, P_idle = offset + slope * N * P_gpu_idle, these are
        (1 - n/N) * P_idle and -(n/N) * P_idle.

        >>> node = load_profile("hgx-h100")
        >>> [round(node.node_watts(2400, 0.5, rule)) for rule in ("share", "marginal", "whole")]
        [3728, 2453, 5003]
        """
        return self._idle_weight(share, allocation) * self.p_idle_kw * 1000

    def allocated_idle_std_w(self, share: float, allocation: Allocation) -> float | None:
        """Return the standard uncertainty in W of ``allocated_idle_w``, or None where the idle power's is unknown."""
        return self._idle_std_w(self._idle_weight(share, allocation))

    def metered_idle_std_w(self, share: float, allocation: Allocation) -> float | None:
        """Return the standard uncertainty in W that idle power brings to ``metered_watts``, or None where unknown."""
        return self._idle_std_w(self._idle_weight(share, allocation) - self._idle_weight(share, "whole"))

    def _idle_std_w(self, weight: float) -> float | None:
        if weight == 0:
            return 0.0
        return None if self.u_idle_kw is None else abs(weight) * self.u_idle_kw * 1000

    @staticmethod
    def _idle_weight(share: float, allocation: Allocation) -> float:
        return {"share": 0.0, "marginal": -share, "whole": 1.0 - share}[allocation]

    def metered_watts(self, meter_w: float, share: float = 1.0, allocation: Allocation = "share") -> float:
        """Return what an allocation charges of a meter's reading in W, which holds the whole node.

        The rest of the node is taken to idle. Nothing is modelled where all GPUs are used and the allocation is not
        ``marginal``, or where it is ``whole``.

        >>> load_profile("hgx-h100").metered_watts(5003, 0.5)
        3728.0
        """
        return meter_w + self.allocated_idle_w(share, allocation) - self.allocated_idle_w(share, "whole")

    def p_max_share_kw(self, share: float, allocation: Allocation = "share") -> float:
        """Return the maximum node power in kW that an allocation charges to ``share`` of the GPUs."""
        return share * self.p_max_kw + self.allocated_idle_w(share, allocation) / 1000

    def to_yaml(self) -> str:
        """Return the profile as the text of a file that ``load_profile`` reads."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


@cache
def shipped_profiles() -> tuple[NodeProfile, ...]:
    """Return the profiles that come with the package, by name.

    >>> [profile.name for profile in shipped_profiles()]
    ['hgx-h100', 'simulated-node']
    """
    documents = (
        entry.read_text(encoding="utf-8")
        for entry in (files("estimator") / "data" / "nodes").iterdir()
        if entry.name.endswith(".yaml")
    )
    return tuple(sorted(map(_parse, documents), key=lambda profile: profile.name))


def load_profile(name_or_path: str | Path) -> NodeProfile:
    """Return a shipped profile by name, or the one in the YAML file at a path.

    Text ending in .yaml or .yml is a path. Raises ValueError for an unknown name, naming the nearest, and for
    a file that is missing or wrong.
    """
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        try:
            return _parse(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ValueError(f"cannot read node profile {path}: {error}") from error
    by_name = {profile.name: profile for profile in shipped_profiles()}
    if str(name_or_path) not in by_name:
        raise unknown_name_error("node profile", str(name_or_path), by_name)
    return by_name[str(name_or_path)]


def profile_for_gpu(gpu_name: str) -> NodeProfile | None:
    """Return the shipped profile of nodes with this GPU, by its NVML name, or None where there is none.

    >>> profile_for_gpu("NVIDIA H100 80GB HBM3").name
    'hgx-h100'
    >>> profile_for_gpu("NVIDIA H100 PCIe") is None
    True
    """
    for profile in shipped_profiles():
        if any(re.search(pattern, gpu_name) for pattern in profile.gpu_name_patterns):
            return profile
    return None


def profile_for_published_gpu(gpu_name: str) -> tuple[NodeProfile, str] | None:
    """Return the profile of nodes with a GPU as a published table names it, and what that match assumes.

    An NVML name assumes nothing, so its second part is empty. None where no shipped profile has the GPU.

    >>> profile, assumption = profile_for_published_gpu("H100")
    >>> profile.name, "700 W" in assumption
    ('hgx-h100', True)
    """
    profile = profile_for_gpu(gpu_name)
    if profile is not None:
        return profile, ""
    for profile in shipped_profiles():
        if gpu_name in profile.published_gpu_names:
            return profile, f"the table says only {gpu_name!r}: taken to be {profile.published_gpu_names[gpu_name]}"
    return None


def _parse(text: str) -> NodeProfile:
    return NodeProfile.model_validate(yaml.safe_load(text))

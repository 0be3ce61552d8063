"""Server settings whose gain the paper states: which settings they are, and the range it gives for alpha.

The paper lets one alpha scale throughput up or energy per query down (section 3). Measured, the two are different
figures: they agree only where the node draws the same power before and after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from estimator.names import unknown_name_error

ANY = "any"
Position = Literal["below", "inside", "above"]


@dataclass(frozen=True)
class PaperRange:
    """What the paper says of a lever; ``high`` is ``None`` where it gives a lower bound alone."""

    low: float
    high: float | None
    says: str
    source: str

    def position(self, alpha: float) -> Position:
        """Return where a measured alpha lies.

        >>> LEVERS["kv-dtype"].paper.position(2.5)
        'inside'
        """
        if alpha < self.low:
            return "below"
        return "above" if self.high is not None and alpha > self.high else "inside"


@dataclass(frozen=True)
class Lever:
    """One lever: the settings that may differ when it is pulled, by their keys in a run's description."""

    name: str
    settings: tuple[str, ...]
    paper: PaperRange | None
    note: str = ""

    def allows(self, key: str) -> bool:
        """Return whether a difference in this key is the lever itself."""
        return key in self.settings

    def __post_init__(self) -> None:
        """Refuse a lever without settings."""
        if not self.settings:
            raise ValueError(f"lever {self.name} names no setting")


_SERVING = PaperRange(
    1.5, 5.0, "serving platform and workload management as a whole, P5 and P95 of alpha", "section 3, ii"
)

LEVERS: Mapping[str, Lever] = MappingProxyType(
    {
        lever.name: lever
        for lever in (
            Lever(
                "weights",
                ("model", "config.model", "server.--quantization", "server.--dtype"),
                PaperRange(1.5, 2.0, "TPS of FP8 over FP16 on H100", "section 3, i"),
                "the range is for FP8 in place of FP16 alone",
            ),
            Lever(
                "kv-dtype",
                ("server.--kv-cache-dtype",),
                PaperRange(
                    1.7, None, "over 1.7x inference speed with KV cache quantization, long sequences", "section 3, ii"
                ),
                "the paper names the techniques it comes from: PQCache, KVQuant and LServe",
            ),
            Lever(
                "speculation",
                ("server.--speculative-config",),
                PaperRange(2.0, 3.0, "TPS with speculative decoding", "section 3, ii"),
                "acceptance depends on the text: on random tokens it is not that of production",
            ),
            Lever("batch-limit", ("server.--max-num-seqs", "server.--max-num-batched-tokens"), _SERVING),
            Lever(
                "prefix-cache",
                ("server.--enable-prefix-caching", "server.--no-enable-prefix-caching"),
                None,
                "the paper gives prefix caching no range of its own: it is part of serving's 1.5-5 (section 3, ii)",
            ),
            Lever(
                "power-cap",
                ("devices.power_limit_w",),
                None,
                "the paper gives power capping no alpha of its own: it is part of hardware's 1.5-2.5 (section 3, iii)",
            ),
        )
    }
)


def find_lever(name: str) -> Lever:
    """Return the lever called ``name``, or the one that is a server argument such as ``--block-size``.

    Raises ValueError for an unknown name, naming the nearest.

    >>> find_lever("speculation").paper.high, find_lever("--block-size").settings
    (3.0, ('server.--block-size',))
    """
    if name in LEVERS:
        return LEVERS[name]
    if name.startswith("--") and len(name) > 2:
        return lever_of(f"server.{name.replace('_', '-')}")
    raise unknown_name_error("lever", name, (*LEVERS, ANY, "--SERVER-ARGUMENT"))


def lever_of(key: str) -> Lever:
    """Return the lever that a setting belongs to, or a lever of that setting alone, of which the paper says nothing.

    >>> lever_of("server.--kv-cache-dtype").name
    'kv-dtype'
    """
    for lever in LEVERS.values():
        if lever.allows(key):
            return lever
    return Lever(key.removeprefix("server."), (key,), None, "the paper gives no range for this setting")

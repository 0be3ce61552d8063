"""The table of all claims: published, ours, their ratio, and the sentence that says why they differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from estimator.presets import get_preset
from estimator.reproduction.claims import Boundary, Claim, fill_template, parse_quantity
from estimator.reproduction.fixed import FIXED
from estimator.reproduction.recipe import Estimate, Recipe
from estimator.reproduction.sampled import SAMPLED, Figure, Quantity

QUANTITIES: Mapping[str, Quantity] = MappingProxyType({**SAMPLED, **FIXED})
"""How to compute every form of ``estimator.reproduction.claims.QUANTITY_FORMS`` but ``none``."""

TOLERANCE = 0.10
"""Relative difference above which a claim counts as not reproduced."""

Verdict = Literal["within 10%", "limit holds", "differs", "not computed"]

NO_REASON = "Not reproduced, and no reason is known; where ours is sampled, compare the difference with its error."

_BOUNDARIES: dict[str, Boundary] = {
    "wh": "node x PUE",
    "gwh": "node x PUE x beta",
    "twh_year": "node x PUE x beta",
}
"""What our figures cover, by the first part of a quantity, where that is not what the claim's own covers."""


@dataclass(frozen=True)
class Row:
    """One claim with our value, None where there is none."""

    claim: Claim
    ours: Figure | None
    ratio: tuple[float, ...] | None
    """Ours over published, of each end for a range."""
    verdict: Verdict
    note: str

    @property
    def ours_boundary(self) -> Boundary | None:
        """What our value covers."""
        if self.ours is None:
            return None
        return _BOUNDARIES.get(self.claim.quantity.split(".")[0], self.claim.boundary)


@dataclass(frozen=True)
class Reproduction:
    """Our values by the presets' recipes; ``samples`` is the number drawn for each model and case.

    >>> from estimator.reproduction.claims import load_claims
    >>> claim = next(claim for claim in load_claims() if claim.id == "token-ratio")
    >>> round(Reproduction(samples=1, seed=0).row(claim).ratio[0], 3)
    1.111
    """

    samples: int
    seed: int
    workers: int = 1
    _recipes: dict[str, Recipe] = field(default_factory=dict, init=False, repr=False, compare=False)

    def table(self, claims: Iterable[Claim]) -> tuple[Row, ...]:
        """Return a row for every claim; raises ValueError where fewer than one sample is to be drawn."""
        return tuple(self.row(claim) for claim in claims)

    def row(self, claim: Claim) -> Row:
        """Return the row of one claim."""
        ours = self.value(claim.quantity, claim.preset)
        if ours is None:
            return Row(claim, None, None, "not computed", self._text(claim.note, claim))
        values = [estimate.value for estimate in estimates(ours)]
        ratio = tuple(value / published for value, published in zip(values, claim.figures, strict=True))
        verdict = _verdict(claim, ratio)
        reason = claim.difference or claim.note or NO_REASON
        return Row(claim, ours, ratio, verdict, self._text(reason if verdict == "differs" else claim.note, claim))

    def value(self, quantity: str, preset: str) -> Figure | None:
        """Return what ``quantity`` stands for under a preset, None for ``none``."""
        if quantity == "none":
            return None
        form, places = parse_quantity(quantity)
        return QUANTITIES[form](self._recipe(preset), **places)

    def _recipe(self, preset: str) -> Recipe:
        if preset not in self._recipes:
            self._recipes[preset] = Recipe(get_preset(preset), self.samples, self.seed, self.workers)
        return self._recipes[preset]

    def _text(self, template: str | None, claim: Claim) -> str:
        return "" if template is None else fill_template(template, lambda name: self._single(name, claim.preset))

    def _single(self, quantity: str, preset: str) -> float:
        value = self.value(quantity, preset)
        if not isinstance(value, Estimate):
            raise ValueError(f"quantity '{quantity}' is not a single value and cannot stand in a note")  # noqa: TRY004 - the name is wrong, not a type
        return value.value


def estimates(figure: Figure) -> tuple[Estimate, ...]:
    """Return the one value of a figure, or both ends of a range."""
    return figure if isinstance(figure, tuple) else (figure,)


def _verdict(claim: Claim, ratio: tuple[float, ...]) -> Verdict:
    if all(abs(each - 1) <= TOLERANCE for each in ratio):
        return "within 10%"
    if (claim.bound == "lower" and min(ratio) >= 1) or (claim.bound == "upper" and max(ratio) <= 1):
        return "limit holds"
    return "differs"

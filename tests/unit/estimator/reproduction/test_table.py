from dataclasses import replace

import pytest

from estimator.reproduction.claims import load_claims
from estimator.reproduction.recipe import Estimate
from estimator.reproduction.table import NO_REASON, Reproduction


@pytest.fixture(scope="module")
def rows():
    return Reproduction(samples=1_000_000, seed=0, workers=2).table(load_claims())


def claim(name, **changed):
    return replace(next(claim for claim in load_claims() if claim.id == name), **changed)


def row(name, **changed):
    return Reproduction(samples=1, seed=0).row(claim(name, **changed))


def test_no_claim_is_left_out(rows):
    assert [each.claim.id for each in rows] == [each.id for each in load_claims()]


def test_every_claim_that_differs_by_more_than_10_percent_says_why(rows):
    for each in rows:
        if each.ratio is not None and any(abs(ratio - 1) > 0.10 for ratio in each.ratio):
            assert each.note, each.claim.id
            assert each.note != NO_REASON, each.claim.id
            assert each.note.endswith("."), each.claim.id


def test_no_claim_gives_a_reason_for_a_difference_that_is_not_there(rows):
    for each in rows:
        assert (each.claim.difference is None) or each.verdict == "differs", each.claim.id


def test_every_claim_without_a_value_says_why_and_no_note_keeps_an_open_place(rows):
    for each in rows:
        assert each.ours is not None or each.note, each.claim.id
        assert "{" not in each.note, each.claim.id


def test_the_supplements_stay_not_reproduced_and_the_notes_carry_computed_figures(rows):
    by_id = {each.claim.id: each for each in rows}
    assert {
        name: by_id[name].verdict for name in ("s3-traditional", "s3-test-time", "s4-traditional", "s4-test-time")
    } == (dict.fromkeys(("s3-traditional", "s3-test-time", "s4-traditional", "s4-test-time"), "differs"))
    for name in ("s3-traditional", "s4-traditional", "s4-test-time"):
        assert f"{by_id[name].ours.value:+.0f}%" in by_id[name].note


@pytest.mark.parametrize(
    ("published", "verdict"), [(16.667, "within 10%"), (15.16, "within 10%"), (15.14, "differs"), (18.6, "differs")]
)
def test_a_difference_of_more_than_10_percent_of_the_published_figure_counts(published, verdict):
    assert row("token-ratio", published=published).verdict == verdict


@pytest.mark.parametrize(
    ("bound", "published", "verdict"),
    [
        ("lower", 10.0, "limit holds"),
        ("lower", 20.0, "differs"),
        ("upper", 20.0, "limit holds"),
        ("upper", 10.0, "differs"),
        (None, 10.0, "differs"),
        ("upper", 16.6, "within 10%"),
    ],
)
def test_a_limit_holds_on_its_own_side_alone(bound, published, verdict):
    assert row("token-ratio", bound=bound, published=published, note="A limit.").verdict == verdict


def test_a_range_differs_where_one_of_its_ends_does():
    assert row("alpha-model", published=(1.5, 10.0)).ratio == pytest.approx((1.0, 1.0))
    assert row("alpha-model", published=(1.5, 12.0)).verdict == "differs"


def test_a_difference_without_a_known_reason_is_said_to_have_none():
    assert row("alpha-model", published=(1.5, 12.0)).note == NO_REASON


def test_a_reason_is_given_only_where_there_is_a_difference():
    assert row("token-ratio", published=16.7).note == ""
    assert "16.7 times apart" in row("token-ratio").note


def test_a_claim_without_a_quantity_has_no_value_ratio_or_boundary():
    each = row("hyperscaler-share")
    assert (each.ours, each.ratio, each.ours_boundary, each.verdict) == (None, None, None, "not computed")


def test_what_ours_covers_is_its_own_boundary_not_that_of_the_reference():
    assert claim("mlenergy-mixtral").boundary == "GPU only"
    assert row("mlenergy-mixtral").ours_boundary == "node x PUE"


def test_a_range_cannot_stand_in_a_note():
    with pytest.raises(ValueError, match=r"alpha\.model\.p5_p95' is not a single value"):
        row("token-ratio", note="{alpha.model.p5_p95:.1f}", published=16.7)


@pytest.mark.parametrize("samples", [0, -5])
def test_no_samples_are_refused(samples):
    with pytest.raises(ValueError, match="at least 1"):
        Reproduction(samples=samples, seed=0).table(load_claims())


def test_errors_add_in_quadrature_in_a_ratio_and_untrimmed_values_are_carried_along():
    ratio = Estimate(4.0, se=0.12, untrimmed=6.0).over(Estimate(2.0, se=0.08))
    assert (ratio.value, ratio.untrimmed) == (2.0, 3.0)
    assert ratio.se == pytest.approx(2 * 0.05)
    change = Estimate(3.0, se=0.3).change_percent(Estimate(2.0))
    assert (change.value, change.se, change.untrimmed) == (pytest.approx(50.0), pytest.approx(15.0), None)

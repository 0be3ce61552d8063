import re
from dataclasses import FrozenInstanceError
from functools import cache

import pytest

from estimator.presets import PRESETS
from estimator.reproduction.claims import QUANTITY_FORMS, fill_template, load_claims, parse_claims, parse_quantity
from tests.paths import SHARED

SEEDS = SHARED / "seeds"
needs_seeds = pytest.mark.skipif(not SEEDS.is_dir(), reason="the texts that make the claims are not here")

HEADINGS = {
    "abstract": r"^Microsoft$",
    "section 1": r"^1 INTRODUCTION$",
    "section 2": r"^2 ESTIMATING ",
    "section 3": r"^3 LINE-OF-SIGHT ",
    "section 4": r"^4 ENERGY USE OF ",
    "section 5": r"^5 CONCLUSIONS$",
    "end": r"^ACKNOWLEDGMENTS$",
    "S.I": r"^I\. TPS Benchmark$",
    "S.II": r"^II\. TPS regression$",
    "S.III": r"^III\. Effect ",
    "S.IV": r"^IV\. Effect ",
    "S.V": r"^V\. Estimating ",
}
PLACES = {*HEADINGS, "brief", "version 2"} - {"end", "S.II"}
IN_WORDS = {
    "order of magnitude": [10],
    "one to two orders of magnitude": [10, 100],
    "three to five times": [3, 5],
    "three models": [3],
    "for five": [5],
    "by half": [2],
    "less than half": [0.5],
    "more than double": [2],
}
SAME = {r"\times": "×", r"\sim": "~", r"\alpha": "α", "–": "-", "—": "-", "“": '"', "”": '"'}
NOT_CLAIMS = re.compile(
    r"\[\d+\]"  # citations
    r"|(Figure|Eq\.|Section) ?\d\w?|S\.[IV]+|\[1\]\$"
    r"|Llama[ -]3\.1( 405B| 70B)?|405B|Ultra \d{3} ?B|8x22B|GPT-\w+|Claude 3\.5|Qwen 3|OpenAI o3|DeepSeek-R1( 671 ?B)?"
    r"|\d*x?H[12]00s?|[AB][12]00|FP\d+|BF16|MiniMax-M1|v5\.0|P5[-–]P95|P5[-–]95|P95|P5"
    r"|\\beta_\d|July, 2025|1999|2015|\b2010\b|\b2030\b|arxiv\.org/pdf/\S+|Narrative \d"
    r"|^- ?2\. ",
    re.MULTILINE,
)


@cache
def sections():
    paper = (SEEDS / "energy_use_of_ai_inference_paper.txt").read_text(encoding="utf-8")
    found = [re.search(pattern, paper, re.MULTILINE) for pattern in HEADINGS.values()]
    ends = [*(heading.start() for heading in found[1:]), len(paper)]
    brief = (SEEDS / "daily_brief_inference_energy.txt").read_text(encoding="utf-8")
    texts = (paper[heading.end() : end] for heading, end in zip(found, ends, strict=True))
    return dict(zip(HEADINGS, texts, strict=True)) | {"brief": brief}


def plain(text):
    """Drop LaTeX markup, citations and white space, so that words and figures can be compared."""
    text = re.sub(r"\[\d+\],? ?", "", text)
    for written, meant in SAME.items():
        text = text.replace(written, meant)
    text = re.sub(r"\\(cdot|text|rm|frac)\b|[$\\{}_]", "", text)
    return re.sub(r"\s", "", text)


def numbers(text):
    text = text.replace("–", "-").replace("—", "-").replace(r"\%", "%")
    return {float(found.replace(",", "")) for found in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", text)}


def in_words(text):
    return {number for words, stated in IN_WORDS.items() if words in text for number in stated}


def test_claims_are_frozen_and_have_unique_ids():
    claims = load_claims()
    assert len({claim.id for claim in claims}) == len(claims) > 150
    with pytest.raises(FrozenInstanceError):
        claims[0].published = 1.0


def test_every_claim_names_known_places_and_a_known_preset():
    for claim in load_claims():
        assert set(claim.places) <= PLACES, claim.id
        assert claim.preset in PRESETS, claim.id
        assert ("version 2" in claim.places) == (claim.preset == "oviedo2026-v2"), claim.id


def test_every_form_of_a_quantity_is_used_by_a_claim_or_its_note():
    used = {claim.quantity for claim in load_claims()}
    for claim in load_claims():
        fill_template(f"{claim.note} {claim.difference}", lambda quantity: used.add(quantity) or 0.0)
    assert {parse_quantity(quantity)[0] for quantity in used} == set(QUANTITY_FORMS)


def test_what_nobody_here_computes_has_no_quantity_and_the_rest_has_one():
    for claim in load_claims():
        if claim.kind == "external":
            assert claim.quantity == "none", claim.id
        if claim.kind == "benchmark":
            assert claim.quantity != "none", claim.id


def test_what_follows_from_other_figures_is_computed_unless_the_text_withholds_one():
    not_computed = {claim.id for claim in load_claims() if claim.kind == "computed" and claim.quantity == "none"}
    assert not_computed == {"hyperscaler-share", "television-share"}


def test_notes_are_one_sentence():
    for claim in load_claims():
        for note in (claim.note, claim.difference):
            assert note is None or (note.endswith(".") and not re.search(r"\. [A-Z]", note)), claim.id


def test_what_the_text_words_as_a_limit_is_one():
    limits = {claim.id: claim.bound for claim in load_claims() if claim.bound}
    assert limits == {
        "test-time-tail": "lower",  # "over 10 Wh"
        "reference-spread": "lower",  # "more than an order of magnitude"
        "reasoning-switch": "lower",  # "5x or more"
        "mixed-over-baseline": "lower",  # "more than double"
        "optimised-over-baseline": "upper",  # "less than half"
        "gwh-data-center": "upper",  # "under 0.6 GWh"
    }


@needs_seeds
@pytest.mark.parametrize(
    "claim",
    [claim for claim in load_claims() if claim.unit != "rows" and claim.where != "version 2"],
    ids=lambda claim: claim.id,
)
def test_a_claims_figures_stand_in_every_place_it_names(claim):
    for place in claim.places:
        stated = numbers(sections()[place]) | in_words(sections()[place])
        assert set(claim.figures) <= stated, place


@needs_seeds
@pytest.mark.parametrize(
    "claim", [claim for claim in load_claims() if claim.where not in {"S.I", "version 2"}], ids=lambda claim: claim.id
)
def test_a_claim_quotes_its_first_place(claim):
    for words in claim.text.split(" ... "):
        assert plain(words) in plain(sections()[claim.places[0]]), words


@needs_seeds
@pytest.mark.parametrize("place", sorted({*PLACES, "S.II"} - {"S.I", "version 2"}))
def test_no_figure_of_a_text_is_left_out(place):
    here = [claim for claim in load_claims() if place in claim.places]
    claimed = {number for claim in here for number in (*claim.figures, *numbers(claim.text))}
    assert numbers(NOT_CLAIMS.sub(" ", sections()[place])) <= claimed


@needs_seeds
def test_the_rows_of_s1_are_counted_as_printed():
    rows = [line.split("\t") for line in sections()["S.I"].splitlines() if line.count("\t") == 6][1:]
    by_model = {}
    for row in rows:
        by_model.setdefault(row[0], []).append(row)
    published = {claim.quantity: claim.published for claim in load_claims() if claim.quantity.startswith("s1.")}
    assert published["s1.rows"] == len(rows)
    assert len(by_model) == 5
    for model, of_model in by_model.items():
        rates = [float(row[3]) for row in of_model]
        assert published[f"s1.rows.{model}"] == len(of_model)
        assert published[f"s1.tps_min.{model}"] == min(rates)
        assert published[f"s1.tps_max.{model}"] == max(rates)


GOOD = {
    "id": "a",
    "where": "abstract",
    "text": "t",
    "published": "1",
    "unit": "Wh/query",
    "kind": "computed",
    "boundary": "node",
    "quantity": "gwh.baseline",
}


def document(*claims):
    return "".join("- {" + ", ".join(f"{key}: {value}" for key, value in claim.items()) + "}\n" for claim in claims)


def test_a_range_is_a_pair_and_a_single_figure_a_number():
    first, second = parse_claims(document(GOOD, GOOD | {"id": "b", "published": "[4, 20]"}))
    assert (first.published, first.figures) == (1.0, (1.0,))
    assert second.figures == second.published == (4.0, 20.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": "Wh"}, "unit"),
        ({"kind": "guess"}, "kind"),
        ({"boundary": "rack"}, "boundary"),
        ({"published": ".nan"}, "published"),
        ({"published": "[20, 4]"}, "claim a: the range .* from low to high"),
        ({"quantity": "gwh.today"}, "claim a: quantity 'gwh.today' has none of the known forms"),
        ({"quantity": "none"}, "claim a: without a quantity, or as a limit, it needs a note"),
        ({"bound": "lower"}, "claim a: without a quantity, or as a limit, it needs a note"),
        ({"bound": "about"}, "bound"),
        ({"preset": "oviedo2025"}, "claim a: unknown preset 'oviedo2025'; did you mean 'oviedo2025-v1'"),
        ({"note": "'{gwh.today:.1f}'"}, "claim a: quantity 'gwh.today' has none of the known forms"),
        ({"difference": "'{gwh.today:.1f}'"}, "claim a: quantity 'gwh.today' has none of the known forms"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_claim_is_refused_with_its_key(change, message):
    with pytest.raises(ValueError, match=message):
        parse_claims(document(GOOD | change))


def test_an_id_that_occurs_twice_is_refused():
    with pytest.raises(ValueError, match="claim a occurs 2 times"):
        parse_claims(document(GOOD, GOOD))


@pytest.mark.parametrize(
    "quantity",
    ["wh.baseline.reasoning.p50", "wh.model.GPT-2.traditional.p50", "alpha.cooling.p5_p95", "preset.p_max_kw.x", ""],
)
def test_a_quantity_with_an_unknown_part_is_refused(quantity):
    with pytest.raises(ValueError, match="none of the known forms"):
        parse_quantity(quantity)


def test_values_stand_in_a_note_in_the_format_it_gives():
    text = fill_template("It is {gwh.baseline:.2f}, or {s4.traditional.change:+.0f}%.", {
        "gwh.baseline": 0.7946, "s4.traditional.change": 15.9,
    }.__getitem__)  # fmt: skip
    assert text == "It is 0.79, or +16%."

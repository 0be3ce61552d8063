import pytest

from harness.console.reproduce import print_reproduction

WIDTH = 120


def entry(name, **given):
    return {
        "id": name,
        "kind": "computed",
        "unit": "Wh/query",
        "boundary": "node x PUE",
        "published": 0.34,
        "bound": None,
        "ours": 0.3365,
        "ours_se": 0.0003,
        "ratio": 0.9897,
        "verdict": "within 10%",
        "note": "",
    } | given


@pytest.fixture
def lines(capsys):
    print_reproduction(
        {
            "samples_per_model": 1_000_000,
            "summary": {"computed": 3, "within 10%": 1, "limit holds": 0, "differs": 2, "not computed": 0},
            "claims": [
                entry("median"),
                entry("quartile", ours_untrimmed=0.1316, note="Trimmed."),
                entry("other-quartile", note="Trimmed."),
                entry(
                    "range", published=[4.0, 20.0], unit="x", ours=[3.2, 18.3], ours_se=[0.01, 0.02], ratio=[0.8, 0.9]
                ),
                entry(
                    "limit", published=10.0, bound="lower", ours=24.1, ours_se=0.05, ratio=2.41, verdict="limit holds"
                ),
                entry("measured", kind="reference", boundary="GPU only", note="Not the same quantity."),
                entry("samples", kind="input", published=10_000.0, unit="queries", ours=1e6, ours_se=None, ratio=100.0),
                entry("rows", kind="benchmark", published=38.0, unit="rows", ours=38.0, ours_se=None, ratio=1.0),
                entry("elsewhere", kind="external", ours=None, ours_se=None, ratio=None, note="Word " * 60),
            ],
        }
    )
    return capsys.readouterr().out.splitlines()


def line(lines, name):
    return next(each for each in lines if each.strip().startswith(name + " "))


def test_the_first_line_sums_up_and_no_line_is_wider_than_a_plain_page(lines):
    assert lines[0].startswith(
        "3 computed claims: 1 within 10%, 0 stated as limits that hold, 2 differ by more, 0 cannot"
    )
    assert max(map(len, lines)) <= WIDTH


def test_the_claims_are_grouped_by_kind(lines):
    titles = [each.split(":")[0] for each in lines if each.startswith(("Comp", "Inputs", "Bench", "Refer", "Exter"))]
    assert sorted(titles) == ["Benchmark", "Computed", "External", "Inputs", "References"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("median", ["0.34 Wh/query", "0.3365 ±0.1%", "0.99"]),
        ("range", ["4–20 x", "3.2–18.3 ±0.3%", "0.80–0.90"]),
        ("limit", ["> 10 Wh/query", "24.1 ±0.2%", "2.41"]),
        ("samples", ["10,000 queries", "1,000,000", "100.00"]),
        ("rows", ["38 rows", "1.00"]),
        ("measured", ["Boundary: GPU only."]),
        ("other-quartile", ["as above"]),
    ],
)
def test_a_claim_shows_published_ours_and_ratio_with_their_precision(lines, name, shown):
    for text in shown:
        assert text in line(lines, name)


def test_the_value_of_all_samples_stands_below_a_trimmed_one(lines):
    below = lines[lines.index(line(lines, "quartile")) + 1]
    assert "(all: 0.1316)" in below

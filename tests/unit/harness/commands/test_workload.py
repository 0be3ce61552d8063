import json
import math

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.errors import ConfigError, WorkloadError
from tests.unit.workloads.traces.files import BURSTGPT, EVERY, SHAREGPT, TIMED, written

WORDS = ("workload", "describe")


def described(*words):
    result = CliRunner().invoke(app, [*WORDS, *map(str, words), "--json"])
    assert result.exit_code == 0, result.exception
    return json.loads(result.stdout)


@pytest.mark.parametrize(("kind", "text"), EVERY.values(), ids=EVERY)
def test_every_format_is_described_by_its_name_or_by_its_file(tmp_path, kind, text):
    path = written(tmp_path, text)
    named, guessed = described(f"{kind}:{path}"), described(path)
    assert named == guessed
    assert named["schema"] == "inference-energy/workload/1"
    assert (named["rows"], named["requests"]) == (5, 3)
    assert named["unusable"] == {"no_output_tok": 1, "no_input_tok": 1}
    lengths = named["lengths"]
    assert lengths["input_tok"]["mean"] == pytest.approx((374 + 91 + 500) / 3)
    assert [lengths["output_tok"][key] for key in ("p5", "p50", "max")] == [16, 44, 1000]
    assert lengths["output_per_input_tok"] == pytest.approx((44 + 16 + 1000) / (374 + 91 + 500))
    assert sum("left out: 1 rows" in note for note in named["notes"]) == 2


def test_the_histogram_counts_octaves(tmp_path):
    histogram = described(written(tmp_path, BURSTGPT))["lengths"]["input_tok"]["histogram"]
    assert [(each["from_tok"], each["below_tok"]) for each in histogram] == [(64, 128), (128, 256), (256, 512)]
    assert [each["share"] for each in histogram] == pytest.approx([1 / 3, 0, 2 / 3])


def test_arrivals_are_described_where_the_file_has_times(tmp_path):
    arrivals = described(written(tmp_path, BURSTGPT))["arrivals"]
    assert (arrivals["span_s"], arrivals["bin_s"], len(arrivals["rate_per_s_by_bin"])) == (60, 1, 60)
    assert [position for position, rate in enumerate(arrivals["rate_per_s_by_bin"]) if rate] == [0, 3, 59]
    assert arrivals["interarrival_cv"] == pytest.approx(26.5 / 30)
    texts = described(written(tmp_path, SHAREGPT))
    assert texts["arrivals"] is None
    assert any("approximated" in note for note in texts["notes"])


def test_the_regimes_of_the_paper_stand_beside(tmp_path):
    regimes = described(written(tmp_path, BURSTGPT), "--context-tok", "2000", "--context-tok", "500")["regimes"]
    for name, median_tok in (("traditional", 300), ("test-time", 5_000)):
        regime = regimes[name]
        assert (regime["input_tok"]["p50"], regime["output_tok"]["max"]) == (500, None)
        assert regime["output_tok"]["p95"] == pytest.approx(median_tok * math.log2(20), abs=1)
        assert [each["context_tok"] for each in regime["over_context"]] == [500, 2000]
        assert regime["over_context"][1]["share"] == pytest.approx(2 ** (-1500.5 / median_tok), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "kind", "mean_input_tok", "median_output_tok", "longest_tok"),
    [
        ("traditional", "exponential", 500, 4_500, None),
        ("fixed:7x9", "fixed", 7, 135, 135),
        ("task:hard-problem", "tasks", None, None, "known"),
    ],
)
def test_named_workloads_are_described_too(name, kind, mean_input_tok, median_output_tok, longest_tok):
    document = described(name, "--multiplier", "15")
    lengths = document["lengths"]
    assert (document["kind"], document["multiplier"]) == (kind, 15)
    assert document["requests"] is document["arrivals"] is document["sha256"] is None
    if mean_input_tok is not None:
        assert lengths["input_tok"]["mean"] == pytest.approx(mean_input_tok)
        assert lengths["output_tok"]["p50"] == pytest.approx(median_output_tok, abs=1)
    assert (lengths["output_tok"]["max"] is None) == (longest_tok is None)


def test_coarse_times_are_told(tmp_path):
    rows = "Timestamp,Request tokens,Response tokens\n" + "1,1,1\n" * 8 + "4,1,1\n" * 8
    notes = described(written(tmp_path, rows))["notes"]
    assert any(note.startswith("93% of the requests have the time of the one before") for note in notes)


@pytest.mark.parametrize("text", [TIMED["mooncake"][1], SHAREGPT], ids=["with times", "without"])
def test_a_person_reads_the_same_numbers_and_gets_a_figure(tmp_path, text):
    path, figure = written(tmp_path, text), tmp_path / "what.svg"
    result = CliRunner().invoke(app, [*WORDS, str(path), "--figure", str(figure), "--multiplier", "2"])
    assert result.exit_code == 0, result.exception
    shown = " ".join(result.stdout.split())
    for part in (
        "3 usable requests of 5 rows",
        "outputs x 2",
        "│ output, p50 │ 88 │ 300 │ 5,000 │",
        "│ longer than 8,192 together │ 0% │ <0.1% │ 34.4% │",
        "│ 64 to 127 │ ██████████████ 33.3% │",
        "note: left out: 1 rows without output tokens",
    ):
        assert part in shown
    assert ("coefficient of variation" in shown) == ("0.0333 requests/s" in shown) == (text != SHAREGPT)
    assert (f"█  █{' ' * 55}█" in result.stdout) == (text != SHAREGPT)
    assert figure.read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("traditional", "--multiplier", "1e8"), ConfigError, "must be positive and at most 1000"),
        (("tradtional",), ConfigError, "did you mean traditional"),
        (("azure:none.csv",), WorkloadError, "cannot read the trace none.csv"),
        (("traditional", "--multiplier", "0"), ConfigError, "must be positive"),
        (("traditional", "--multiplier", "inf"), ConfigError, "must be positive"),
        (("traditional", "--context-tok", "0"), ConfigError, "at least 1 token"),
        (("traditional", "--figure", "x.pdf"), ConfigError, "must end in .png or .svg"),
    ],
)
def test_what_cannot_be_described_is_one_error(words, error, message):
    result = CliRunner().invoke(app, [*WORDS, *words])
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
    assert result.stdout == ""

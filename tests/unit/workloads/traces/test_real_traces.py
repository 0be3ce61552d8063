"""The published files against counts made apart, where they lie beside the checkout."""

import csv
import statistics
from datetime import datetime
from itertools import pairwise

import numpy as np
import pytest

from tests.paths import SHARED
from workloads.sample import read_stretch, sample_lengths
from workloads.summary import summarise
from workloads.traces import find_trace, recognised

FOLDER = SHARED / "data" / "traces"


def azure_time_s(text):
    whole, fraction = text.split(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float("0." + fraction)


REAL = [
    ("azure", "AzureLLMInferenceTrace_conv.csv", 19_366, 129, azure_time_s),
    ("azure", "AzureLLMInferenceTrace_code.csv", 8_819, 13, azure_time_s),
    ("mooncake", "mooncake_conversation_trace_nohash.csv", 12_031, 350, lambda text: float(text) / 1000),
]


@pytest.mark.parametrize(("kind", "file", "number", "median_output_tok", "seconds"), REAL)
def test_a_published_trace_has_what_a_plain_loop_counts(kind, file, number, median_output_tok, seconds):
    path = FOLDER / file
    if not path.is_file():
        pytest.skip(f"the trace is not at {path}")
    with path.open(newline="") as lines:
        rows = [(seconds(time), int(given), int(made)) for time, given, made in list(csv.reader(lines))[1:]]
    times_s, inputs, outputs = (list(column) for column in zip(*rows, strict=True))
    trace = find_trace(f"{kind}:{path}")
    sample, summary, stretch = sample_lengths(trace), summarise(trace), read_stretch(trace)
    assert len(rows) == sample.usable == summary.requests == number
    assert (sample.input_tok.tolist(), sample.output_tok.tolist()) == (inputs, outputs)
    assert summary.unusable == sample.unusable == {}
    for spread, column in ((summary.lengths.input, inputs), (summary.lengths.output, outputs)):
        assert spread.mean_tok == pytest.approx(statistics.fmean(column))
        assert spread.quantile_tok(0.5) == statistics.median_low(column)
        assert spread.quantile_tok(1.0) == max(column)
    assert summary.lengths.output.quantile_tok(0.5) == median_output_tok
    assert summary.lengths.total.share_over(8_192) == pytest.approx(
        sum(given + made > 8_192 for _, given, made in rows) / len(rows)
    )
    assert stretch.time_s == pytest.approx(np.array(times_s) - times_s[0], abs=1e-5)
    gaps_s = [after - before for before, after in pairwise(times_s)]
    cv = statistics.pstdev(gaps_s) / statistics.fmean(gaps_s)
    assert summary.arrivals.interarrival_cv == pytest.approx(cv, rel=1e-4)
    assert recognised(path).kind == kind

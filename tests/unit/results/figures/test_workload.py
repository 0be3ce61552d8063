import numpy as np
import pytest

from results.figures.workload import Rate, workload_figure
from workloads.summary import Spread

SHORT = Spread.of(np.array([10, 100]), np.array([0.25, 0.75]))
LONG = Spread.of(np.array([1_000]), np.ones(1))
PANELS = {"input": {"this": SHORT, "other": LONG}, "output": {"this": LONG, "other": SHORT}}


def test_each_panel_shows_the_share_up_to_each_length():
    figure = workload_figure("a title", None, PANELS)
    assert [axis.get_xlabel() for axis in figure.axes] == ["input tokens, logarithmic", "output tokens, logarithmic"]
    this, other = (dict(zip(*line.get_data(), strict=True)) for line in figure.axes[0].lines)
    assert {share for tok, share in this.items() if tok < 10} == {0}
    assert {share for tok, share in this.items() if 10 <= tok < 100} == {0.25}
    assert {share for tok, share in this.items() if tok >= 100} == {1}
    assert [tok for tok, share in other.items() if share] == [1_000]
    assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()] == ["this", "other"]


@pytest.mark.parametrize(("bin_s", "last", "unit"), [(1, 4, "s"), (60, 4, "min"), (3_600, 4, "h"), (86_400, 4, "days")])
def test_the_rate_stands_over_time_in_a_readable_unit_from_zero(bin_s, last, unit):
    figure = workload_figure("a title", Rate(bin_s, [1.0, 0.0, 5.0, 2.0]), PANELS)
    axis = figure.axes[0]
    assert axis.get_xlabel() == f"time since the first request ({unit})"
    assert axis.get_ylabel() == "requests per second"
    assert (axis.get_xlim(), axis.get_ylim()[0]) == ((0, last), 0)
    steps = axis.patches[0].get_data()
    assert (list(steps.values), list(steps.edges)) == ([1, 0, 5, 2], [0, 1, 2, 3, 4])
    assert axis.lines[0].get_ydata()[0] == 2

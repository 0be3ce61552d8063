import pytest

from results.figures.energy import energy_figure
from results.figures.style import save_figure

ROWS = {
    "slow": {"p5": 0.1, "p25": 0.2, "p50": 0.5, "p75": 0.9, "p95": 2.0},
    "fast": {"p5": 0.01, "p25": 0.02, "p50": 0.05, "p75": 0.09, "p95": 0.2},
}


def drawn():
    return energy_figure({"traditional": ROWS, "test-time": ROWS}, title="Energy", boundary="node x PUE", remark="; so")


def test_each_regime_has_a_panel_whose_boxes_and_whiskers_are_the_quantiles():
    left, right = drawn().axes
    assert (left.get_title("left"), right.get_title("left")) == ("a) traditional", "b) test-time")
    boxes = [(box.get_x(), box.get_x() + box.get_width()) for box in left.patches]
    assert boxes == [(0.2, pytest.approx(0.9)), (0.02, pytest.approx(0.09))]
    whiskers = [tuple(line.get_xdata()) for line in left.lines[::2]]
    assert whiskers == [(0.1, 2.0), (0.01, 0.2)]


def test_medians_stand_in_text_and_axes_say_unit_and_boundary():
    figure = drawn()
    assert [text.get_text() for text in figure.axes[0].texts] == ["slow: 0.5 Wh", "fast: 0.05 Wh"]
    assert figure.axes[0].get_xlabel() == "Wh per query (node x PUE), logarithmic"
    assert figure.get_supxlabel().endswith("of single queries; so")


@pytest.mark.parametrize(("name", "magic"), [("figure.png", b"\x89PNG"), ("figure.svg", b"<?xml")])
def test_the_suffix_decides_the_format(tmp_path, name, magic):
    save_figure(drawn(), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic)

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import ConfigError, StoreError
from harness.studies.estimate_figures import write_figure_1, write_figure_2
from harness.studies.estimates import EstimateOptions

OPTIONS = EstimateOptions(samples=1_000, workers=1, preset="oviedo2026-v2")


def test_figure_1_shows_every_model_in_both_regimes(tmp_path):
    write_figure_1(OPTIONS, tmp_path / "1.svg")
    text = (tmp_path / "1.svg").read_text()
    for name in (
        "Llama 3.1 405B:",
        "Llama 3.1 70B:",
        "Mixtral 8x22B:",
        "DeepSeek-R1:",
        "Llama-3.1 Nemotron",
        "baseline:",
    ):
        assert text.count(f"<!-- {name}") == 2
    assert "<!-- a) traditional -->" in text
    assert "<!-- b) test\u2010time" in text or "<!-- b) test" in text


def test_figure_2_shows_every_gain_with_its_range(tmp_path):
    write_figure_2(OPTIONS, tmp_path / "2.svg")
    text = (tmp_path / "2.svg").read_text()
    for name in ("baseline", "model, alpha 1.5 to 10", "serving, alpha 1.5 to 5", "hardware", "line-of-sight"):
        assert text.count(f"<!-- {name}") == 2


@pytest.mark.parametrize("write", [write_figure_1, write_figure_2])
def test_a_name_that_is_neither_png_nor_svg_is_refused_before_anything_is_drawn(tmp_path, write):
    with pytest.raises(ConfigError, match=r"must end in \.png or \.svg"):
        write(OPTIONS, tmp_path / "figure.pdf")


def test_a_figure_that_cannot_be_written_says_where(tmp_path):
    with pytest.raises(StoreError, match="cannot write"):
        write_figure_1(OPTIONS, tmp_path / "none" / "figure.png")


@pytest.mark.parametrize(
    "given", [{"task": "agentic-coding"}, {"workload": "fixed:5x5"}, {"tps_model": Path("a.json")}]
)
def test_what_the_figures_cannot_show_is_refused_rather_than_left_out(tmp_path, given):
    with pytest.raises(ConfigError, match="has no part in the figures"):
        write_figure_2(replace(OPTIONS, **given), tmp_path / "figure.png")

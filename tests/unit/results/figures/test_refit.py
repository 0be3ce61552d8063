import math

import pytest
from matplotlib.figure import Figure

from results.figures.refit import refit_figure, save_refit_figure
from results.figures.style import save_figure


def row(input_tok, output_tok, observed, predicted, flags=(), influence=(0.3, 0.1)):
    return {
        "input_tok": input_tok, "output_tok": output_tok, "observed_tok_per_s": observed,
        "predicted_tok_per_s": predicted, "interval_low_tok_per_s": predicted * 0.8,
        "interval_high_tok_per_s": predicted * 1.2, "flags": flags, "leverage": influence[0],
        "cooks_distance": influence[1],
    }  # fmt: skip


def document(rows, reason=None):
    limits = {"leverage_limit": 0.6, "cooks_limit": 0.4}
    return {
        "model": {"model": "m", "gpus": 8, "form": "roofline"},
        "diagnostics": {"rows": rows, "reason": reason, **limits},
    }


ROWS = [row(100, 200, 900.0, 1000.0), row(2000, 50, 90.0, 80.0, ("leverage",), (0.9, 0.7))]


def test_points_lie_at_observed_and_fitted_and_residuals_at_their_lengths():
    fitted, by_input, by_output, influence = refit_figure(document(ROWS)).axes
    assert fitted.collections[0].get_offsets().tolist() == [[900, 1000], [90, 80]]
    residuals = [math.log(0.9), math.log(90 / 80)]
    for axes, lengths in ((by_input, (100, 2000)), (by_output, (200, 50))):
        places = [tuple(collection.get_offsets()[0].tolist()) for collection in axes.collections]
        assert places == [pytest.approx(place) for place in zip(lengths, residuals, strict=True)]
    assert influence.collections[0].get_offsets().tolist() == [[0.3, 0.1], [0.9, 0.7]]
    assert [text.get_text() for text in influence.texts] == ["2000x50"]


def test_every_axis_says_its_quantity_and_unit():
    labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in refit_figure(document(ROWS)).axes]
    assert labels == [
        ("observed TPS (tok/s)", "fitted TPS (tok/s)"),
        ("input length (tokens)", "log observed - log fitted TPS"),
        ("output length (tokens)", "log observed - log fitted TPS"),
        ("leverage", "Cook's distance"),
    ]


def test_without_influence_the_panel_says_why():
    bare = [row(100, 200, 900.0, 900.0, influence=(None, None)) | {"interval_low_tok_per_s": None}]
    influence = refit_figure(document(bare, "no degrees of freedom")).axes[3]
    assert [text.get_text() for text in influence.texts] == ["no degrees of freedom"]


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("PNG", b"\x89PNG")])
def test_the_suffix_decides_the_kind_of_file_and_the_bytes_are_the_same_each_time(tmp_path, suffix, start):
    path = tmp_path / f"fit.{suffix}"
    save_refit_figure(document(ROWS), path)
    first = path.read_bytes()
    save_refit_figure(document(ROWS), path)
    assert first.startswith(start)
    assert path.read_bytes() == first


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.png or \.svg"):
        save_figure(Figure(), tmp_path / "fit.pdf")

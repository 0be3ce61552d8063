import math

import numpy as np
import pytest

from workloads.shapes import ExponentialShape, FixedShape, RecordedShape

RECORDED = RecordedShape(np.array([10, 20, 30]), np.array([1, 4, 7]), {"trace_requests": 3, "trace_sha256": "abc"})
SHAPES = [ExponentialShape(500, 300.0), FixedShape(500, 300), RECORDED]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: type(shape).__name__)
@pytest.mark.parametrize("multiplier", [0.5, 1.0, 15.0])
def test_a_multiplier_leaves_the_inputs_as_they_are(shape, multiplier):
    assert shape.lengths(multiplier).mean_input_tok == pytest.approx(shape.lengths(1.0).mean_input_tok)


@pytest.mark.parametrize("multiplier", [1.0, 2.0, 15.0])
def test_the_median_of_an_exponential_shape_is_multiplied_and_its_mean_follows(multiplier):
    lengths = ExponentialShape(500, 300.0).lengths(multiplier)
    assert lengths.median_output_tok == pytest.approx(300 * multiplier, abs=1)
    assert lengths.mean_output_tok == pytest.approx(300 * multiplier / math.log(2), rel=1e-3)


@pytest.mark.parametrize(
    ("multiplier", "output_tok"),
    [(1.0, 7), (3.0, 21), (1.2, 8), (0.01, 1)],
    ids=["same", "tripled", "rounded", "floor"],
)
def test_a_fixed_shape_multiplies_its_output_and_never_goes_below_one_token(multiplier, output_tok):
    lengths = FixedShape(5, 7).lengths(multiplier)
    assert (lengths.input_tok.tolist(), lengths.output_tok.tolist()) == ([5], [output_tok])


def test_a_recorded_shape_keeps_each_input_with_its_own_output():
    lengths = RECORDED.lengths(15.0)
    assert list(zip(lengths.input_tok, lengths.output_tok, strict=True)) == [(10, 15), (20, 60), (30, 105)]
    assert lengths.weight.tolist() == pytest.approx([1 / 3] * 3)


def test_a_recorded_output_never_goes_below_one_token():
    assert RECORDED.lengths(0.1).output_tok.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("shape", "definition"),
    [
        (SHAPES[0], {"input_tok": 500, "median_output_tok": 300.0}),
        (SHAPES[1], {"input_tok": 500, "output_tok": 300}),
        (SHAPES[2], {"trace_requests": 3, "trace_sha256": "abc"}),
    ],
    ids=["exponential", "fixed", "recorded"],
)
def test_a_shape_says_what_identifies_it(shape, definition):
    assert shape.definition() == definition

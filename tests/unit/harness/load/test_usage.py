import numpy as np
import pandas as pd
import pytest

from harness.load.usage import edge_u_tok, servers_without_counter, tokens_by, with_usage_tokens


def requests(*rows: tuple[float, float | None, float, int | None]) -> pd.DataFrame:
    columns = ["send_mono_s", "first_mono_s", "end_mono_s", "output_tok"]
    table = pd.DataFrame(rows, columns=columns).astype(float)
    table["outcome"] = np.where(table["output_tok"].isna(), "aborted", "completed")
    table["server"] = 0
    return table


ONE = requests((10.0, None, 20.0, 100))


@pytest.mark.parametrize(("at_s", "expected"), [(5, 0), (10, 0), (13, 30), (20, 100), (99, 100)])
def test_tokens_come_at_a_constant_rate_from_sending_to_end(at_s: float, expected: float) -> None:
    assert tokens_by(ONE, [at_s])[0] == pytest.approx(expected)


def test_a_streamed_request_makes_tokens_from_its_first_event_on() -> None:
    assert tokens_by(requests((10.0, 15.0, 20.0, 100)), [14, 16, 20]).tolist() == pytest.approx([0, 20, 100])


def test_what_did_not_complete_has_no_tokens() -> None:
    assert tokens_by(requests((10.0, None, 20.0, None), (0.0, 1.0, 2.0, 7)), [30.0]).tolist() == [7]


def test_over_a_steady_load_the_rate_is_the_true_one() -> None:
    """64 slots in random phase, each making 50 tok/s from the moment of sending; the truth is 3,200 tok/s."""
    rng = np.random.default_rng(4)
    rows = []
    for _ in range(64):
        at_s = -float(rng.uniform(0, 20))
        while at_s < 400:
            length = int(rng.integers(50, 900))
            rows.append((at_s, None, at_s + length / 50, length))
            at_s += length / 50
    made = np.diff(tokens_by(requests(*rows), [100.0, 300.0]))[0]
    assert made / 200 == pytest.approx(3_200, rel=1e-9)


def test_the_uncertainty_is_that_of_the_requests_across_the_edges() -> None:
    table = requests((0.0, None, 20.0, 120), (5.0, None, 15.0, 240), (12.0, None, 18.0, 60), (90.0, None, 95.0, 60))
    assert edge_u_tok(table, 10.0, 100.0) == pytest.approx((120**2 + 240**2) ** 0.5 / 12**0.5)
    assert edge_u_tok(table, 200.0, 300.0) == 0


def test_only_a_server_that_never_told_is_filled_in() -> None:
    server = pd.DataFrame(
        {"t_mono_s": [12.0, 12.0, 20.0, 20.0], "server": [0, 1, 0, 1], "generation_tok": [np.nan, 5.0, np.nan, np.nan]}
    )
    filled = with_usage_tokens(server, ONE)
    assert filled["generation_tok"].tolist()[:3] == [20.0, 5.0, 100.0]
    assert np.isnan(filled["generation_tok"].iloc[3])
    assert servers_without_counter(server) == (0,)
    assert servers_without_counter(filled) == ()

"""A sweep made by hand: a ladder at constant power, so that J/token goes as one over throughput, and a grid."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from harness.analysis.run import analyse_run
from harness.cli import app
from harness.studies.sweeps import _exponents, _knee, sweep_document
from results.store import RunWriter
from tests.unit.harness.synthetic_run import DEVICES, Cell, SyntheticRun, power_rows

RATES = {1: 100.0, 2: 190.0, 4: 195.0}
LADDER = tuple(
    Cell(f"ladder-{concurrency}", 100.0 * number, rate, role="ladder", workload="fixed:50x100")
    for number, (concurrency, rate) in enumerate(RATES.items(), start=1)
)
GRID = tuple(
    Cell(f"grid-50x{tok}", start_s, rate, tok, tok, role="grid", workload=f"fixed:50x{tok}")
    for tok, start_s, rate in ((100, 400.0, 200.0), (400, 500.0, 100.0))
)
CLIENT_LAG_S = 0.2


def sweep(folder, *, lagging=False):
    run = SyntheticRun((*LADDER, *GRID))
    run.manifest["config"] = {"grid": [[50, 100], [50, 400]], "ladder": "auto"}
    run.prediction = None
    for row in run.server:
        row["preemptions"] = 0.0
    for event in run.events:
        if event["event"] == "cell_start" and event["definition"]["role"] == "ladder":
            event["definition"]["concurrency"] = int(event["cell"].removeprefix("ladder-"))
    run.events.append({"event": "cell_skipped", "t_mono_s": 600.0, "cell": "grid-9x9", "why": "too long"})
    run.write(folder)
    if lagging:
        store_ticks(folder)
    return folder


def store_ticks(folder):
    ticks = [{"t_mono_s": 100 + 0.02 * n, "client": 0, "lag_s": CLIENT_LAG_S, "cpu_s": 0.01 * n} for n in range(25_000)]
    writer = RunWriter.reopened(folder)
    writer.add("client", ticks)
    writer.flush()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sweep(tmp_path_factory.mktemp("runs") / "sweep")


@pytest.fixture(scope="module")
def document(folder):
    return sweep_document(folder)


def test_the_knee_is_the_smallest_concurrency_within_three_percent_of_the_best(document):
    assert [cell["concurrency"] for cell in document["ladder"]["cells"]] == [1, 2, 4]
    assert document["ladder"]["knee"] == {
        "concurrency": 2,
        "plateau_tps_tok_per_s": pytest.approx(len(DEVICES) * 195.0),
        "binds": "compute_or_bandwidth",
        "binding": "compute or memory bandwidth: 4 in flight gained less than 5%",
        "plateau_shown": True,
    }


def test_a_ladder_whose_last_gain_is_not_known_says_that_its_plateau_is_not_established(folder):
    cells = [cell for cell in analyse_run(folder).cells if cell.role == "ladder"]
    wide = [cell.model_copy(update={"tps_ci95": tuple(f * cell.tps_tok_per_s for f in (0.9, 1.1))}) for cell in cells]
    for changed in (wide, [cell.model_copy(update={"tps_ci95": None}) for cell in cells]):
        knee = _knee(changed)
        assert knee["plateau_shown"] is False
        assert "gained less than 5%; the plateau is not statistically established" in knee["binding"]


def test_lengths_that_are_nearly_equal_as_served_have_no_exponent(folder):
    """Within 1% the energies' own errors would be divided by next to nothing; a third length makes an exponent."""
    cells = [cell for cell in analyse_run(folder).cells if cell.role == "grid"]

    def served(cell, tok, wh):
        return cell.model_copy(
            update={"wh_per_query": cell.wh_per_query.model_copy(update={"output_tok": tok, "mean": wh})}
        )

    near = [served(cells[0], 100.0, 1.0), served(cells[1], 100.9, 1.2)]
    assert _exponents(near) == []
    (fit,) = _exponents([*near, served(cells[1], 400.0, 4.4)])
    x, y = np.log([100.0, 100.9, 400.0]), np.log([1.0, 1.2, 4.4])
    assert fit["exponent"] == pytest.approx(np.polyfit(x, y, 1)[0])
    assert fit["output_tok"] == [100.0, 100.9, 400.0]


def test_at_constant_power_one_request_at_a_time_costs_the_inverse_of_throughput(document):
    cost = document["ladder"]["unsaturated_cost"]
    assert (cost["concurrency"], cost["saturated_concurrency"]) == (1, 4)
    assert cost["joules_per_tok_ratio"] == pytest.approx(195 / 100, rel=1e-6)
    assert "different comparison" in cost["reference"]["note"]


def test_the_cost_of_unsaturated_serving_keeps_what_gain_and_node_leave_in_a_ratio(tmp_path):
    """The GPUs draw 150 W with one request in flight and 400 W with four: gain, offset and slope do not cancel."""
    run = SyntheticRun(LADDER)
    run.manifest["config"] = {"grid": [], "ladder": "auto"}
    run.prediction, run.power = None, power_rows(until_s=345, loaded_from_s=195.0)
    for event in run.events:
        if event["event"] == "cell_start":
            event["definition"]["concurrency"] = int(event["cell"].removeprefix("ladder-"))
    cost = sweep_document(run.write(tmp_path / "run"))["ladder"]["unsaturated_cost"]
    rng, n = np.random.default_rng(2), 200_000
    cov = -0.8 * 170 * 0.05
    offset, slope = rng.multivariate_normal([1600, 1.22], [[170**2, cov], [cov, 0.05**2]], n).T
    gain = 1 + 0.03 * math.sqrt(3) * rng.uniform(-1, 1, n)
    drawn = np.log((0.25 * offset + slope * gain * 150) / (0.25 * offset + slope * gain * 400))
    tokens = [concurrency / math.sqrt(6) / (2 * RATES[concurrency] * 26) for concurrency in (1, 4)]
    own = math.hypot(*tokens, *[0.1 * math.sqrt(2 / 3) / 26] * 2)
    half = math.log(cost["ci95"][1] / cost["joules_per_tok_ratio"])
    assert half == pytest.approx(1.959964 * math.hypot(own, float(np.std(drawn))), rel=0.02)


def test_the_exponent_of_energy_over_length_is_that_of_the_two_cells(document):
    (fit,) = document["grid"]["energy_exponents"]
    # Four times the tokens at half the throughput: eight times the energy.
    assert fit["exponent"] == pytest.approx(math.log(8) / math.log(4), rel=1e-6)
    assert document["grid"]["skipped"] == [{"cell": "grid-9x9", "why": "too long"}]


def test_a_ladder_whose_client_lagged_at_its_end_names_the_client(tmp_path):
    knee = sweep_document(sweep(tmp_path / "sweep", lagging=True))["ladder"]["knee"]
    assert knee["binds"] == "client"
    assert knee["binding"].startswith("the client: its event loop comes 0.2 s late (p99, limit 0.05 s) at 4 in flight")
    assert "--clients 2, now 1" in knee["binding"]


def test_compare_prints_a_stored_sweep_as_the_sweep_did(folder, document):
    shown = CliRunner().invoke(app, ["compare", str(folder), "--json"])
    assert json.loads(shown.stdout) == json.loads(json.dumps(document))
    table = CliRunner().invoke(app, ["compare", str(folder)])
    assert table.exit_code == 0
    for expected in (
        "concurrency ladder, fixed:50x100",
        "from 2 in flight",
        "grid of fixed lengths",
        "d ln E / d ln L",
    ):
        assert expected in table.stdout

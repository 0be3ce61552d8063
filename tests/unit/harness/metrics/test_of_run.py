import pytest

from estimator.nodes import load_profile
from harness.analysis.run import analyse_run
from harness.live.state import LiveState
from harness.metrics.collectors import NodeModel
from harness.metrics.of_run import measured_figures, predicted_figures, run_collector
from harness.prediction import TpsSource, make_prediction
from results.schema import Manifest
from results.store import RunReader, RunWriter
from tests.unit.harness.plans import constant_tps, plan_of
from tests.unit.harness.synthetic_run import SyntheticRun


@pytest.fixture
def run(tmp_path):
    """A run folder that holds nothing yet."""
    writer = RunWriter(tmp_path / "run")
    writer.write_json("manifest.json", {})
    return writer


def by_stat(figures, cell):
    return {figure.stat: figure.wh for figure in figures if figure.cell == cell}


def test_measured_energy_is_exported_with_its_interval_source_and_boundary(tmp_path):
    result = analyse_run(SyntheticRun().write(tmp_path / "run"))
    figures = measured_figures(result)
    for cell in result.cells:
        low, high = cell.wh_per_query.ci95
        expected = {"mean": cell.wh_per_query.mean, "ci95_low": low, "ci95_high": high}
        assert by_stat(figures, cell.name) == expected
    assert {figure.kind for figure in figures} == {"measured"}
    assert {(figure.source, figure.boundary) for figure in figures} == {
        (cell.power_source, cell.wh_per_query.boundary) for cell in result.cells
    }


def test_what_is_exported_of_the_prediction_is_what_was_stored(run):
    plan = plan_of(tps_model=constant_tps())
    lengths = {name: plan.workload.lengths(multiplier) for name, multiplier in plan.cells}
    stored = make_prediction(plan, TpsSource(plan.tps_model, "a file"), lengths)
    run.write_json("prediction.json", stored.model_dump(mode="json", by_alias=True))
    figures = predicted_figures(RunReader(run.folder), "node_modelled")
    assert {figure.cell for figure in figures} == {"1x", "15x"}
    for name, cell in stored.cells.items():
        assert by_stat(figures, name) == {stat: cell[f"{stat}_wh"] for stat in ("mean", "p5", "p50", "p95")}
        assert cell["p5_wh"] < cell["p50_wh"] < cell["p95_wh"]
    assert {(figure.kind, figure.source, figure.boundary) for figure in figures} == {
        ("predicted", "eq1", "node_modelled x PUE")
    }


def test_a_run_without_a_prediction_exports_none(run):
    assert predicted_figures(RunReader(run.folder), "gpu") == ()


@pytest.mark.parametrize(("given", "source"), [(None, "assumed"), (1.3, "measured")])
def test_the_node_model_and_pue_are_those_of_the_run(tmp_path, given, source):
    run = SyntheticRun()
    manifest = Manifest.model_validate(RunReader(run.write(tmp_path / "run")).json("manifest.json"))
    collector = run_collector(plan_of(pue=given), manifest, LiveState())
    assert collector.node == NodeModel(load_profile("simulated-node"), 1.0, "share")
    assert (collector.pue.value, collector.pue.source) == (manifest.pue.mean, source)

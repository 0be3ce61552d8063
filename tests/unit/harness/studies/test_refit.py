import json
import math
from dataclasses import dataclass, replace
from importlib.resources import files

import numpy as np
import pytest
from typer.testing import CliRunner

from estimator.power.power_fit import PowerFit
from estimator.throughput.tps import TpsModel
from harness.cli import app
from harness.errors import ConfigError, StoreError, WorkloadError
from harness.studies.refit import RefitOptions, refit
from harness.studies.refit_rows import read_runs
from tests.unit.harness.synthetic_run import PLAIN, Cell, SyntheticRun, server

COEF = (9.0, -0.2, -0.3)
LENGTHS = [(100, 200), (100, 800), (400, 200), (400, 800), (200, 400), (800, 100)]
S1 = files("estimator") / "data" / "tps_s1.csv"


def tps(input_tok, output_tok):
    return math.exp(COEF[0]) * input_tok ** COEF[1] * output_tok ** COEF[2]


def fixed_cells(lengths):
    return tuple(
        Cell(
            f"calibration-{number}", start_s=100.0 + 60 * number, rate=tps(input_tok, output_tok) / 2,
            output_tok=output_tok, input_tok=input_tok, role="calibration", workload=f"fixed:{input_tok}x{output_tok}",
        )
        for number, (input_tok, output_tok) in enumerate(lengths)
    )  # fmt: skip


@pytest.fixture
def run(tmp_path):
    def write(name, lengths, **manifest):
        made = SyntheticRun(fixed_cells(lengths))
        made.manifest |= {"id": name, **manifest}
        return made.write(tmp_path / name)

    return write


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "s1.csv"
    path.write_text(S1.read_text(encoding="utf-8"), encoding="utf-8")
    return path


@pytest.fixture
def options(tmp_path):
    return RefitOptions(out=tmp_path / "tps.json")


@pytest.fixture
def v019(options, table):
    return replace(options, table=table, model="Llama 3.1 405B", source="tensorrt")


@pytest.fixture
def few(options, tmp_path):
    lines = [f"m,8,FP8,{tps(i, o) * (1 + 0.02 * n)},{i},{o},made up" for n, (i, o) in enumerate(LENGTHS)]
    path = tmp_path / "few.csv"
    path.write_text("\n".join([S1.read_text(encoding="utf-8").splitlines()[0], *lines]))
    return replace(options, table=path)


def test_the_coefficients_that_made_the_runs_are_found_again(run, options):
    folders = (run("a", LENGTHS[:3]), run("b", LENGTHS[3:]))
    document = refit(replace(options, runs=folders))
    model = TpsModel.load(options.out)
    assert document["selected"] == model.form == "oviedo"
    assert model.coef == pytest.approx(COEF, rel=1e-4)
    own = [8 * math.sqrt(2 / 3) / (tps(*lengths) * 26) for lengths in LENGTHS]  # 16 in flight, over 26 s
    assert [row["tps_sd_log"] for row in document["diagnostics"]["rows"]] == pytest.approx(own, rel=0.05)
    assert model.residual_sd_log == pytest.approx(math.hypot(*own) / math.sqrt(len(own)), rel=0.05)
    assert not any("no row carries an error" in note for note in document["notes"])
    assert (model.model, model.gpus, model.n_rows, model.dof) == ("test/model", 2, 6, 3)
    assert (model.input_range_tok, model.output_range_tok) == ((100, 800), (100, 800))
    assert model.cap_tok_per_s is None
    assert model.source == "run a; run b"
    assert document["model"] == json.loads(model.to_json())
    assert document["written"] == {"model": str(options.out), "power": None, "figure": None}
    assert np.isfinite(model.predictive_sd_log(300, 300))


def test_each_row_is_a_cell_with_its_lengths_and_its_run(run):
    (measured,) = read_runs([run("a", LENGTHS[:2])])
    assert [(row.input_tok, row.output_tok, row.source) for row in measured.rows] == [
        (100, 200, "run a"),
        (100, 800, "run a"),
    ]
    assert [row.tps_tok_per_s for row in measured.rows] == pytest.approx([tps(100, 200), tps(100, 800)])


def test_mixed_workloads_and_invalid_cells_are_left_out(tmp_path):
    made = SyntheticRun((PLAIN, *(cell for cell in fixed_cells([(1, 1), *LENGTHS[:2]]) if cell.start_s > 100)))
    made.events = [event for event in made.events if not (event["event"] == "cell_end" and event["t_mono_s"] < 210)]
    (measured,) = read_runs([made.write(tmp_path / "run")])
    assert [(row.input_tok, row.output_tok) for row in measured.rows] == [(100, 800)]


@dataclass(frozen=True)
class Loaded(Cell):
    """A cell of given arrivals whose search found a plateau of twice its throughput."""

    arrival: str = "closed"

    def definition(self):
        return super().definition() | {"arrival": self.arrival, "plateau_tps_tok_per_s": 4 * self.rate}


def loaded_run(folder, arrival):
    cells = (Loaded(**{**vars(cell), "role": "compared", "arrival": arrival}) for cell in fixed_cells(LENGTHS))
    made = SyntheticRun(tuple(cells))
    made.manifest["id"] = "a"
    return made.write(folder)


def test_an_open_loop_is_not_fitted_as_if_it_saturated(options, tmp_path):
    with pytest.raises(WorkloadError, match="0 usable fixed-length") as error:
        refit(replace(options, runs=(loaded_run(tmp_path / "run", "poisson:3"),)))
    assert "run a: calibration-0 is left out: its load is an open loop (poisson:3)" in error.value.why
    assert not options.out.exists()


def test_a_fit_to_cells_of_unproven_saturation_says_so_in_print_and_in_the_model_s_file(options, tmp_path):
    document = refit(replace(options, runs=(loaded_run(tmp_path / "run", "closed"),)))
    said = "run a: saturation is not proven for 6 of 6 cells (calibration-0 at 16 in flight, "
    for notes in (document["notes"], TpsModel.load(options.out).notes):
        assert [note.startswith(said) for note in notes].count(True) == 1


def test_simulated_watts_are_not_fitted_unless_asked_for(run, options, tmp_path):
    simulated = {"name": "simulated", "boundary": "gpu", "gain_rel_u": 0.0, "power_lag_s": 0.0, "notes": []}
    folder = run("a", LENGTHS, power=simulated)
    document = refit(replace(options, runs=(folder,)))
    assert (document["power"], document["joules"]) == (None, None)
    assert "simulated" in document["power_reason"]
    assert "simulated" in document["joules_reason"]
    with pytest.raises(WorkloadError, match="simulated"):
        refit(replace(options, runs=(folder,), power_out=tmp_path / "power.json"))
    allowed = refit(replace(options, runs=(folder,), simulated_power=True))
    assert allowed["power"]["n_pairs"] == 6
    assert any("simulated" in note for note in allowed["power"]["notes"])


def test_watts_and_joules_of_a_run_become_a_power_line_and_costs(run, options, tmp_path):
    folder = run("a", LENGTHS)
    document = refit(replace(options, runs=(folder,), power_out=tmp_path / "power.json"))
    power = PowerFit.load(tmp_path / "power.json")
    assert document["power"] == json.loads(power.to_json())
    node_kw = 0.25 * 1.6 + 1.22 * 0.4
    assert power.predict_kw([200.0, 400.0]) == pytest.approx([node_kw, node_kw], rel=1e-3)
    assert (power.boundary, power.gpus, power.n_pairs) == ("node_modelled", 2, 6)
    joules = document["joules"]
    for (input_tok, output_tok), cell in zip(LENGTHS, read_runs([folder])[0].cells, strict=True):
        assert cell.joules_per_tok == pytest.approx(1000 * node_kw / tps(input_tok, output_tok), rel=1e-2)
    assert joules["n_cells"] == 6
    assert joules["decode"]["value"] > 0
    assert joules["decode"]["low_95"] <= joules["decode"]["value"] <= joules["decode"]["high_95"]


def test_without_watts_there_is_no_power_model_to_write(few, tmp_path):
    with pytest.raises(WorkloadError, match="no power model to write") as error:
        refit(replace(few, power_out=tmp_path / "power.json"))
    assert "carry no watts" in error.value.why
    assert not few.out.exists()


@pytest.mark.parametrize(
    ("manifest", "listed"),
    [
        ({"model": "another/model"}, "another/model on 2 device(s); test/model on 2 device(s)"),
        ({"servers": [server(["gpu-a"])]}, "test/model on 1 device(s); test/model on 2 device(s)"),
    ],
    ids=["models", "node sizes"],
)
def test_runs_of_different_models_or_node_sizes_are_refused(run, options, manifest, listed):
    with pytest.raises(WorkloadError, match="cannot share one TPS model") as error:
        refit(replace(options, runs=(run("a", LENGTHS[:3]), run("b", LENGTHS[3:], **manifest))))
    assert error.value.why == listed


def test_too_few_cells_are_refused_with_their_number_and_what_to_do(run, options):
    with pytest.raises(WorkloadError, match=r"2 usable fixed-length cell\(s\) in 1 run\(s\) are too few") as error:
        refit(replace(options, runs=(run("a", [(100, 200), (200, 400)]),)))
    assert "no error can be given" in error.value.why
    assert "the oviedo form has 3 coefficients to find and needs as many rows; got 2" in error.value.why
    for part in ("measure more lengths: 2 or more row(s)", "fixed:500x2000", "--form NAME", "--pooled"):
        assert part in error.value.fix
    assert not options.out.exists()


def test_a_run_without_any_cell_is_refused(run, options):
    folder = run("a", [(100, 200)])
    (folder / "events.jsonl").write_text("")
    with pytest.raises(WorkloadError, match="0 usable"):
        refit(replace(options, runs=(folder,)))


def test_a_single_cell_gives_a_model_only_where_a_form_is_asked_for(run, options):
    folder = run("a", [(100, 200)])
    with pytest.raises(WorkloadError, match="1 usable"):
        refit(replace(options, runs=(folder,)))
    document = refit(replace(options, runs=(folder,), form="oviedo"))
    model = TpsModel.load(options.out)
    assert float(model.predict_tok_per_s(100, 200)) == pytest.approx(tps(100, 200))
    assert len([note for note in model.notes if "only at that" in note]) == 2
    assert any("interpolation with unknown error" in note for note in document["notes"])


def test_the_ranking_of_405b_has_the_known_errors_with_and_without_a_cap(v019):
    document = refit(v019)
    errors = {form["name"]: form for form in document["forms"]}
    assert document["forms"][0]["name"] == document["selected"] == "roofline"
    assert errors["oviedo"]["loo_mape"] == pytest.approx(0.74, rel=0.02)
    assert errors["total_length"]["loo_mape"] == pytest.approx(0.13, rel=0.03)
    assert errors["oviedo"]["with_cap"]["loo_mape"] < errors["oviedo"]["without_cap"]["loo_mape"]
    assert {form["n_rows"] for form in document["forms"]} == {11}
    assert document["nested"]["chosen"] == ("roofline",) * 11
    assert document["nested"]["loo_mape"] == pytest.approx(errors["roofline"]["loo_mape"])
    assert document["validity"]["input_range_tok"] == (128, 20000)
    flagged = [row for row in document["diagnostics"]["rows"] if row["flags"]]
    assert [(row["input_tok"], row["output_tok"]) for row in flagged] == [(128, 4096)]
    assert (document["joules"], document["power"]) == (None, None)
    assert "carry no joules" in document["joules_reason"]


def test_a_form_and_a_cap_can_be_forced(v019):
    document = refit(replace(v019, form="total_length", cap=True))
    assert document["selected"] == TpsModel.load(v019.out).form == "total_length"
    assert TpsModel.load(v019.out).cap_tok_per_s == 4572.23
    assert document["forms"][0]["name"] == "roofline"


def test_three_rows_are_refused_without_a_form_and_pooled_with_the_others_on_request(options, table):
    r1 = replace(options, table=table, model="DeepSeek-R1")
    with pytest.raises(WorkloadError, match=r"3 row\(s\) of DeepSeek-R1 are too few"):
        refit(r1)
    with pytest.raises(WorkloadError, match="do not determine the hinged form"):
        refit(replace(r1, form="hinged"))
    document = refit(replace(r1, pooled=True))
    model = TpsModel.load(options.out)
    assert (model.model, model.n_rows, model.gpus) == ("DeepSeek-R1", 3, 10)
    assert document["selected"] == document["pooled"]["form"] == model.form
    assert {one["model"] for one in document["pooled"]["leave_one_model_out"]} == {
        "Llama 3.1 405B",
        "Llama 3.1 70B",
        "Mixtral 8x22B",
    }
    assert document["diagnostics"]["reason"].startswith("a pooled fit leans on other models")


def test_pooling_without_a_name_reports_every_model_and_writes_none(options, table):
    document = refit(replace(options, table=table, pooled=True, source="tensorRT"))
    assert [model["model"] for model in document["pooled"]["models"]] == [
        "Llama 3.1 405B",
        "Llama 3.1 70B",
        "Mixtral 8x22B",
        "DeepSeek-R1",
    ]
    assert document["model"] is None
    assert document["forms"][0]["n_rows"] == 31
    assert not options.out.exists()


def test_a_figure_of_all_pooled_models_is_refused_before_anything_is_written(options, table, tmp_path):
    everything = replace(options, table=table, pooled=True, form="oviedo", source="tensorRT")
    with pytest.raises(ConfigError, match="a figure needs one model"):
        refit(replace(everything, figure=tmp_path / "fit.png"))


def test_watts_of_another_model_than_the_one_asked_for_are_left_out(run, options, table):
    document = refit(replace(options, runs=(run("a", LENGTHS),), table=table, model="Mixtral 8x22B"))
    assert document["power"] is None
    assert document["power_reason"].startswith("no run folder of this model")


def test_pooling_one_model_is_refused(run, options):
    with pytest.raises(WorkloadError, match="cannot be pooled"):
        refit(replace(options, runs=(run("a", LENGTHS),), pooled=True))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"form": "cubic"}, ConfigError, "unknown form 'cubic'(.|\n)*oviedo"),
        ({"form": "constant"}, ConfigError, "unknown form 'constant'"),
        ({"table": None}, ConfigError, "nothing to refit"),
        ({"model": "llama 3.1 405b"}, WorkloadError, "did you mean 'Llama 3.1 405B'"),
        ({"model": None}, WorkloadError, "cannot share one TPS model"),
        ({"source": "nowhere"}, WorkloadError, "no row of Llama 3.1 405B has 'nowhere' in its source"),
        ({"pooled": True, "cap": True}, ConfigError, "--pooled has no cap"),
    ],
)
def test_options_that_make_no_sense_are_refused(v019, change, error, message):
    with pytest.raises(error, match=message):
        refit(replace(v019, **change))


def test_a_figure_must_be_png_or_svg_and_is_refused_before_anything_is_read(v019, tmp_path):
    with pytest.raises(ConfigError, match=r"must end in \.png or \.svg"):
        refit(replace(v019, table=tmp_path / "none.csv", figure=tmp_path / "fit.pdf"))


def test_a_figure_is_written_on_request(few, tmp_path):
    document = refit(replace(few, figure=tmp_path / "fit.svg"))
    assert document["written"]["figure"] == str(tmp_path / "fit.svg")
    assert "</svg>" in (tmp_path / "fit.svg").read_text()


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "the table is empty"), ("model,tps_tok_per_min\nm,3\n", "column tps_tok_per_min: expected tps_tok_per_s")],
)
def test_a_table_that_cannot_be_used_is_refused_by_name(options, tmp_path, text, why):
    path = tmp_path / "rows.csv"
    path.write_text(text)
    with pytest.raises(WorkloadError, match=r"cannot use the table .*rows\.csv") as error:
        refit(replace(options, table=path))
    assert error.value.why.startswith(why)


def test_a_table_that_is_not_there_is_refused(options, tmp_path):
    with pytest.raises(WorkloadError, match="cannot read the table"):
        refit(replace(options, table=tmp_path / "none.csv"))


def test_a_folder_that_is_no_run_is_refused(options, tmp_path):
    with pytest.raises(StoreError, match=r"no manifest\.json"):
        refit(replace(options, runs=(tmp_path,)))


@pytest.mark.parametrize("option", ["out", "power_out", "figure"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read_or_written(few, tmp_path, option):
    with pytest.raises(StoreError, match="cannot write"):
        refit(replace(few, table=tmp_path / "none.csv", **{option: tmp_path / "none" / "file.png"}))
    assert not few.out.exists()


def test_a_table_that_is_not_utf_8_says_so(options, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("modèle".encode("latin-1"))
    with pytest.raises(WorkloadError) as error:
        refit(replace(options, table=path))
    assert error.value.why.startswith("it is not a text file in UTF-8")


def test_the_command_prints_one_json_document_or_a_table_for_a_person(v019, tmp_path):
    words = ["refit", "--table", str(v019.table), "--model", "Llama 3.1 405B", "--source", "tensorRT"]
    words += ["--out", str(v019.out)]
    document = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert document["schema"] == "inference-energy/refit/1"
    assert {"forms", "selected", "nested", "model", "diagnostics", "joules", "power", "validity", "notes"} <= set(
        document
    )
    shown = CliRunner().invoke(app, words).stdout
    for part in ("roofline *", "73.6%", "nested error", "HC3 standard error", "128x4096", "no cap", "TPS model of"):
        assert part in shown
    pooled = CliRunner().invoke(app, [*words, "--pooled"]).stdout
    assert "from 2 of its rows and the others' shape" in pooled

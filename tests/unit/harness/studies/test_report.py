"""From run folders to a page: what stands on it, and what is refused."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from estimator.throughput.fit import fit_tps
from estimator.throughput.s1 import rows_for
from harness.errors import ConfigError, StoreError
from harness.studies.report import write_report
from harness.studies.report_view import run_view
from results.report import page
from results.report.figures.fleet import fleet_figure
from results.report.figures.ladder import ladder_figure
from results.report.figures.predicted import predicted_figure
from results.report.figures.throughput import throughput_figure
from results.report.figures.timeline import timeline_figure
from results.report.view import LeftOut
from tests.unit.harness import report_runs
from tests.unit.harness.synthetic_run import GENERATING_S, IDLE_W, LOADED_W, OFFSET_KW, PLAIN, PUE, SLOPE, SyntheticRun
from tests.unit.harness.test_metered_run import METER_W, meter, rows

HEADINGS = ("h1", "h2", "h3", "h4")
NODE_W = 1000 * 0.25 * OFFSET_KW + SLOPE * 2 * LOADED_W
"""Two of eight GPUs bear a quarter of the node's offset."""


class Outline(HTMLParser):
    """The tags of a page with their attributes, its headings, and its visible text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_data(self, data):
        if "style" not in self.open[-1:]:
            self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    inputs = {
        "pair": [report_runs.pair(folder / "pair")],
        "hostile": [report_runs.pair(folder / "hostile", hostile=True, simulated=True)],
        "sweep": [report_runs.sweep(folder / "sweep")],
        "two": [folder / "pair", report_runs.pair(folder / "faster", rate=800.0)],
    }
    pages = {name: folder / f"{name}.html" for name in inputs}
    return {name: (write_report(runs, pages[name]), pages[name]) for name, runs in inputs.items()}


@pytest.fixture
def text_alone(monkeypatch):
    """Pages without figures: for tests of the words, since drawing takes most of the time."""
    monkeypatch.setattr(page, "FIGURES", ())


@pytest.fixture(params=["pair", "hostile", "sweep", "two"])
def outline(made, request):
    return Outline(made[request.param][1].read_text())


def page_of(made, name):
    return Outline(made[name][1].read_text())


def test_the_answer_comes_first_with_boundary_source_and_verdict(made):
    words = page_of(made, "pair").words
    wh = PUE * NODE_W * 100 / 800 / 3600
    assert f"measured {wh:.4f} Wh per query" in words
    answer = words[words.index("The answer") : words.index("Measured beside the predicted mean")]
    for part in ("0.0733 Wh predicted", "times the prediction", "× PUE 1.25", "power: nvml", "verdict: valid"):
        assert part in answer


def test_simulated_power_opens_the_page(made):
    words = page_of(made, "hostile").words
    assert words.index("SIMULATED POWER") < words.index("The answer")
    assert "SIMULATED" not in page_of(made, "pair").words


def test_simulated_stands_on_every_figure_of_joules(made):
    html = made["hostile"][1].read_text()
    for title in ("Measured beside", "Power and throughput", "Where the difference", "Energy against", "A billion"):
        figure = html[html.index(f"<h3>{title}") :]
        for drawn in re.findall(r"<svg.*?</svg>", figure[: figure.index("</figure>")], re.DOTALL):
            texts = re.sub(r"<(title|desc)[ >].*?</\1>", "", drawn, flags=re.DOTALL)
            assert "simulated" in texts.casefold(), title


def test_nothing_of_the_page_comes_from_outside_or_runs(outline):
    assert not outline.all("script")
    policy = next(attrs["content"] for attrs in outline.all("meta") if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    attributes = [pair for _, attrs in outline.tags for pair in attrs.items()]
    pointing = [value for name, value in attributes if name in ("src", "href", "xlink:href")]
    assert pointing
    assert all(value.startswith(("#", "data:")) for value in pointing)
    assert not any(name.startswith("on") for name, _ in attributes)


def test_headings_are_in_order_and_begin_with_one_h1(outline):
    levels = [int(tag[1]) for tag, _ in outline.tags if tag in HEADINGS]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))


def test_ids_are_unique_and_links_hit_them(outline):
    ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"][1:] for attrs in outline.all("a")} <= set(ids)


def test_figures_and_tables_can_be_read_without_seeing_them(outline):
    assert all(attrs["role"] == "img" and attrs["aria-labelledby"] for attrs in outline.all("svg"))
    assert all(attrs.get("scope") in ("col", "row") for attrs in outline.all("th"))
    assert outline.all("html") == [{"lang": "en"}]


def test_what_a_run_folder_holds_is_shown_and_never_obeyed(made):
    outline = page_of(made, "hostile")
    assert not outline.all("img")
    assert " ".join(report_runs.HOSTILE.split()) in outline.words


def test_credentials_of_a_command_line_or_option_are_not_shown(made):
    html = made["hostile"][1].read_text()
    assert "s3cret" not in html
    assert "(hidden)" in html


def test_a_missing_figure_says_why(made):
    document, _ = made["sweep"]
    (run,) = document["runs"]
    assert run["left_out"]["Measured beside the predicted mean"] == "a sweep compares no cell with a prediction"
    assert {"Concurrency ladder", "Residuals of the refit", "Energy against output length"} <= set(run["figures"])
    words = page_of(made, "sweep").words
    for title, reason in run["left_out"].items():
        assert f"{title}: {reason}." in words


@pytest.mark.parametrize("sweep", [False, True])
def test_a_run_without_a_cell_has_no_answer_and_is_not_valid(text_alone, tmp_path, sweep):
    failed, good = report_runs.cell_less(tmp_path / "failed", sweep=sweep), report_runs.pair(tmp_path / "good")
    document = write_report([failed, good], tmp_path / "r.html")
    assert [run["verdict"] for run in document["runs"]] == ["invalid", "suspect"]
    words = Outline((tmp_path / "r.html").read_text()).words
    assert f"{'Sweep' if sweep else 'Run'}: no cell was measured." in words
    assert f"A {'sweep' if sweep else 'no compared cell'} ✗ invalid" in words
    why = "a sweep compares no cell with a prediction" if sweep else "the run has no compared cell"
    assert predicted_figure(run_view(failed)) == LeftOut("Measured beside the predicted mean", why)
    assert ladder_figure(run_view(failed)) == LeftOut("Concurrency ladder", "no cell was measured")
    assert fleet_figure(run_view(failed)) == LeftOut("A billion queries a day", "no cell was measured")


@pytest.mark.parametrize(("status", "verdict"), [("complete", "valid"), ("partial", "suspect"), ("failed", "suspect")])
def test_a_run_that_did_not_reach_its_end_is_not_valid(tmp_path, status, verdict):
    run = SyntheticRun(cells=(PLAIN,))
    run.manifest["status"] = status
    assert run_view(run.write(tmp_path / "run")).verdict == verdict


def test_a_sweeps_ladder_is_not_called_the_papers(made):
    words = page_of(made, "sweep").words
    assert "J/token at 1 in flight is 4.00" in words  # 50, 100 and 200 tok/s a server at the same watts
    assert "not the paper's 4 to 20 times" in words


def test_two_runs_have_their_differences_with_intervals(made):
    words = page_of(made, "two").words
    said = (
        r"traditional, B over A: J/token \(node, modelled\) × 0\.500 \(95% [\d.]+ to [\d.]+\); throughput × 2\.00 \(95%"
    )
    assert re.search(said, words)
    assert "random errors within the windows alone" in words
    assert "boundary of joules" in words


def test_a_page_of_several_runs_with_every_figure_stays_under_8_mb(made):
    assert all(path.stat().st_size < 8_000_000 for _, path in made.values())


def test_runs_of_simulated_and_measured_power_are_not_compared(text_alone, tmp_path):
    measured, simulated = report_runs.pair(tmp_path / "m"), report_runs.pair(tmp_path / "s", simulated=True)
    write_report([measured, simulated], tmp_path / "r.html")
    words = Outline((tmp_path / "r.html").read_text()).words
    assert "No differences are given: some of the runs have simulated power and some measured" in words
    assert "Energy per query, side by side is left out: some of the runs have simulated power" in words
    assert "SIMULATED POWER: every watt, joule and Wh of B is simulated" in words


@pytest.mark.parametrize("boundary", ["node", "node_modelled"])
def test_simulated_gpus_beside_a_node_meter_are_told_apart_from_it(text_alone, tmp_path, boundary):
    run = SyntheticRun()
    run.manifest |= {"meters": [meter("redfish", "node", 0.01)], "boundary": boundary}
    run.manifest["power"] |= {"name": "simulated"}
    run.power += rows(run, "redfish", "node", METER_W)
    folder = run.write(tmp_path / "mixed")
    write_report([folder], tmp_path / "r.html")
    words = Outline((tmp_path / "r.html").read_text()).words
    assert "SM clock" in words
    assert "The watts and joules are simulated." in words  # those of the devices
    drawn = timeline_figure(run_view(folder))
    assert "The power is simulated, but for redfish (node)." in drawn.finding
    assert "Watts are simulated or read from redfish (node), without PUE." in drawn.caption
    if boundary == "node":
        assert "SIMULATED GPU POWER: the watts and joules of the GPUs of mixed are simulated." in words
        assert "read from redfish, boundary node. Meters: redfish (node)." in words
        assert "power: redfish" in words
        assert "SIMULATED POWER" not in words
    else:
        assert "every watt, joule and Wh is simulated, but for the watts of its meters: redfish (node)." in words
        assert "power: SIMULATED" in words


def test_the_traces_are_those_of_the_readings(tmp_path):
    timeline = run_view(report_runs.pair(tmp_path / "run")).timeline
    devices, node = timeline.totals
    assert (devices.envelope.low.min(), devices.envelope.high.max()) == pytest.approx((2 * IDLE_W, 2 * LOADED_W))
    assert node.envelope.high.max() == pytest.approx(NODE_W)
    seen = timeline.throughput.envelope
    steps = zip(np.diff(seen.t_s), seen.mean[1:], strict=True)
    tokens = sum(step_s * rate for step_s, rate in steps if math.isfinite(rate))
    assert tokens == pytest.approx(2 * (400 + 200) * GENERATING_S, rel=0.02)
    spans = {span.name: span for span in timeline.spans}
    assert set(spans) == {"idle", "1x", "8x"}
    assert spans["1x"].start_s <= spans["1x"].window_s[0] < spans["1x"].window_s[1] <= spans["1x"].end_s


def test_a_stored_tps_model_is_drawn_beside_the_run(monkeypatch, tmp_path):
    monkeypatch.setattr(page, "FIGURES", (throughput_figure,))
    model = fit_tps(rows_for("Mixtral 8x22B"), "roofline", cap=False)
    model.save(tmp_path / "tps.json")
    write_report([report_runs.pair(tmp_path / "run"), tmp_path / "tps.json"], tmp_path / "r.html")
    assert "given: tps.json" in (tmp_path / "r.html").read_text()


def test_the_page_says_how_to_check_it(made):
    words = page_of(made, "pair").words
    assert "harness verify" in words
    assert "SHA-256 of manifest.json" in words


def test_an_unfinished_run_says_so(text_alone, tmp_path):
    folder = report_runs.pair(tmp_path / "run")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"status": "partial", "failure": "interrupted"}))
    write_report([folder], tmp_path / "r.html")
    words = Outline((tmp_path / "r.html").read_text()).words
    assert "UNFINISHED: the run run did not reach its end: interrupted." in words


def test_a_folder_that_is_no_run_is_one_clear_error(tmp_path):
    with pytest.raises(StoreError, match="is not a run folder"):
        write_report([tmp_path], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("{}")
    with pytest.raises(ConfigError, match="neither a run folder nor a throughput model"):
        write_report([report_runs.pair(tmp_path / "run"), tmp_path / "notes.txt"], tmp_path / "r.html")


def test_a_page_that_cannot_be_written_is_known_before_any_work(tmp_path):
    with pytest.raises(StoreError, match="cannot write"):
        write_report([tmp_path / "no-run"], tmp_path / "no-folder" / "r.html")


def test_models_alone_make_no_report(tmp_path):
    fit_tps(rows_for("Mixtral 8x22B"), "roofline", cap=False).save(tmp_path / "tps.json")
    with pytest.raises(ConfigError, match="no run to report"):
        write_report([tmp_path / "tps.json"], tmp_path / "r.html")

import pytest
import yaml

from workloads.spec import WorkloadNameError, load_workload, shipped_workloads
from workloads.traces import WorkloadFileError

PROFILE = {"name": "mine", "description": "d", "source": "s", "input_tok": 100, "median_output_tok": 20.5}


@pytest.mark.parametrize(
    ("name", "input_tok", "median_output_tok"),
    [("traditional", 500, 300), ("test-time", 500, 5000)],
)
def test_a_shipped_profile_has_the_lengths_it_is_known_for(name, input_tok, median_output_tok):
    lengths = load_workload(name).lengths()
    assert lengths.mean_input_tok == pytest.approx(input_tok)
    assert lengths.median_output_tok == pytest.approx(median_output_tok, abs=1)


def test_the_small_profile_ends_sooner_than_the_traditional_one():
    small, traditional = (load_workload(name).lengths() for name in ("small", "traditional"))
    assert small.mean_input_tok + small.mean_output_tok < traditional.mean_output_tok


def test_every_shipped_profile_loads_under_its_own_name():
    assert shipped_workloads() == ("small", "test-time", "traditional")
    assert [load_workload(name).name for name in shipped_workloads()] == list(shipped_workloads())


def test_a_fixed_workload_has_exactly_the_lengths_in_its_name():
    workload = load_workload("fixed:500x2000")
    lengths = workload.lengths()
    assert (lengths.input_tok.tolist(), lengths.output_tok.tolist()) == ([500], [2000])
    assert workload.definition()["name"] == "fixed:500x2000"


@pytest.mark.parametrize("text", ["fixed:0x5", "fixed:5x0"])
def test_a_fixed_workload_without_tokens_is_refused(text):
    with pytest.raises(WorkloadNameError, match="at least 1 token"):
        load_workload(text)


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("tradtional", "traditional"),
        ("test_time", "test-time"),
        ("smal", "small"),
        ("fixed:500*2000", "fixed:500x2000"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_name(text, near):
    with pytest.raises(WorkloadNameError, match=f"did you mean {near}"):
        load_workload(text)


def test_a_name_near_nothing_is_refused_with_all_known_names():
    with pytest.raises(WorkloadNameError, match="known: small, test-time, traditional") as error:
        load_workload("zzzz")
    assert "did you mean" not in str(error.value)


def test_a_profile_file_gives_its_own_workload(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(PROFILE))
    workload = load_workload(str(path))
    assert workload.definition() == PROFILE
    assert workload.lengths(10).median_output_tok == pytest.approx(205, abs=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "exactly the keys"),
        ({"input_tok": 0}, "whole number >= 1"),
        ({"input_tok": 1.5}, "whole number >= 1"),
        ({"median_output_tok": 0}, "a number > 0"),
        ({"median_output_tok": "many"}, "a number > 0"),
        ({"median_output_tok": float("inf")}, "a number > 0"),
    ],
)
def test_a_wrong_profile_file_is_refused_with_its_path(tmp_path, change, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(PROFILE | change))
    with pytest.raises(WorkloadFileError, match=message) as error:
        load_workload(str(path))
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "content", [b"name: [", b"just text", b"", b"\xff\xfe\xfa"], ids=["cut", "text", "empty", "binary"]
)
def test_a_file_that_is_no_profile_is_refused(tmp_path, content):
    path = tmp_path / "broken.yml"
    path.write_bytes(content)
    with pytest.raises(WorkloadFileError, match=r"broken\.yml"):
        load_workload(str(path))


def test_a_missing_profile_file_is_refused_with_the_reason(tmp_path):
    with pytest.raises(WorkloadFileError, match="No such file"):
        load_workload(str(tmp_path / "none.yaml"))


def test_a_trace_is_loaded_by_its_path_and_named_by_its_file(tmp_path):
    (tmp_path / "hour.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\nx,3,4\n")
    workload = load_workload(f"azure:{tmp_path / 'hour.csv'}")
    assert workload.name == "azure:hour.csv"
    assert workload.lengths(2).output_tok.tolist() == [8]

import pytest
import yaml

from estimator.presets import get_preset
from estimator.queries.served import BASELINE_MODELS, s1_model
from estimator.queries.tasks import TaskEnergies, TaskShape
from workloads.tasks import load_task, shipped_tasks
from workloads.traces import WorkloadFileError

PROFILE = {
    "name": "mine", "description": "d", "source": "s", "steps": 3, "samples_per_step": 2, "input_tok": 100,
    "median_output_tok": 20.5, "tool_result_tok": 0, "kept_output_share": 0.5, "input_limit_tok": None,
}  # fmt: skip


def pooled_mean_wh(shape):
    """Mean energy of a task under the paper's assumptions, of the three baseline models in equal shares."""
    preset = get_preset("corrected")
    models = [s1_model(name, preset) for name in BASELINE_MODELS]
    return sum(TaskEnergies(shape, each.tps, each.node_power(preset), preset.pue()).mean_wh for each in models) / 3


def test_every_shipped_task_loads_under_its_own_name_and_claims_nothing():
    assert shipped_tasks() == ("agentic-coding", "hard-problem")
    for name in shipped_tasks():
        task = load_task(name)
        assert task.name == name
        assert "invented" in task.source


def test_the_shipped_hard_problem_lies_within_the_counter_signal():
    """0.6 to 6.3 kWh and more than a million tokens for one problem."""
    shape = load_task("hard-problem").shape
    assert 600 < pooled_mean_wh(shape) < 6300
    assert shape.mean_output_tok == pytest.approx(100 * 5000 / 0.693147, rel=1e-3)


@pytest.mark.parametrize(
    ("median_output_tok", "fewest", "most"), [(300, 1_078, 11_324), (5000, 75, 789)], ids=["traditional", "test-time"]
)
def test_the_counter_signal_is_so_many_queries_of_the_paper(median_output_tok, fewest, most):
    """Without any growth of context: 600 Wh and 6,300 Wh over the mean query of the baseline."""

    def steps(count):
        return pooled_mean_wh(TaskShape(count, 1, 500, median_output_tok, 0, 0.0))

    assert steps(fewest) < 600 < steps(fewest + 1)
    assert steps(most - 1) < 6300 < steps(most)


def test_a_task_file_gives_its_own_task(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(PROFILE))
    assert load_task(str(path)).definition() == PROFILE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "colour: Extra inputs"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 2.5}, "steps: Input should be a valid integer"),
        ({"steps": "3"}, "steps: Input should be a valid integer"),
        ({"steps": True}, "steps: Input should be a valid integer"),
        ({"median_output_tok": float("nan")}, "median_output_tok: Input should be a finite number"),
        ({"median_output_tok": -5}, "median_output_tok must be positive"),
        ({"kept_output_share": 2}, "kept_output_share must be between 0 and 1"),
        ({"input_limit_tok": 50}, "input_limit_tok must be at least input_tok"),
    ],
)
def test_a_wrong_task_file_is_refused_with_path_and_key(tmp_path, change, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(PROFILE | change))
    with pytest.raises(WorkloadFileError, match=message) as error:
        load_task(str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", sorted(PROFILE))
def test_every_key_must_be_given(tmp_path, key):
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in PROFILE.items() if name != key}))
    with pytest.raises(WorkloadFileError, match=f"{key}: Field required"):
        load_task(str(path))


@pytest.mark.parametrize("content", [b"name: [", b"just text", b"", b"\xff\xfe\xfa"], ids=["cut", "text", "empty", "b"])
def test_a_file_that_is_no_task_is_refused(tmp_path, content):
    path = tmp_path / "broken.yml"
    path.write_bytes(content)
    with pytest.raises(WorkloadFileError, match=r"broken\.yml"):
        load_task(str(path))


def test_a_missing_file_and_an_unknown_name_are_refused(tmp_path):
    with pytest.raises(WorkloadFileError, match="No such file"):
        load_task(str(tmp_path / "none.yaml"))
    with pytest.raises(ValueError, match="did you mean 'agentic-coding'"):
        load_task("agentic-codin")

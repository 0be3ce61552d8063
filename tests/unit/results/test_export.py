import csv
import io

from results.export import cells_csv
from results.schema import RunResult
from tests.unit.results.test_schema import RESULT


def cell(name, role, **figures):
    return {
        "name": name, "role": role, "workload": "w", "multiplier": 1, "concurrency": 2, "mean_input_tok": 3,
        "mean_output_tok": 4, "median_output_tok": 4, "capped_share": 0, "power_source": "nvml", "boundary": "gpu",
        "binding": "compute, or memory", "requests": {"completed": 5, "aborted": 6, "errors": 7},
        "tokens": {
            "counter_tok": None, "usage_completed_tok": 8, "unfinished_limit_tok": 9, "consistent": None,
        },
        "verdict": "suspect", "reasons": ["drift", "power_gap"],
    } | figures  # fmt: skip


def rows(*cells, calibration=()):
    result = RunResult.model_validate(RESULT | {"cells": cells, "calibration_cells": calibration})
    return list(csv.DictReader(io.StringIO(cells_csv(result))))


def test_each_cell_is_a_row_with_the_compared_ones_first():
    table = rows(cell("1x", "compared"), cell("15x", "compared"), calibration=(cell("c-0", "calibration"),))
    assert [(row["name"], row["role"]) for row in table] == [
        ("1x", "compared"), ("15x", "compared"), ("c-0", "calibration"),
    ]  # fmt: skip


def test_nested_figures_become_dotted_columns():
    row = rows(cell("1x", "compared", watts=12.5, split={"power": 1, "length": 2, "tps": 3, "pue": 4, "total": 10}))[0]
    assert (row["requests.completed"], row["split.total"], row["watts"]) == ("5", "10.0", "12.5")


def test_text_with_commas_stays_one_field_and_what_is_unknown_is_empty():
    row = rows(cell("1x", "compared"))[0]
    assert row["binding"] == "compute, or memory"
    assert (row["watts"], row["tokens.counter_tok"]) == ("", "")


def test_a_run_without_cells_gives_no_rows():
    assert rows() == []

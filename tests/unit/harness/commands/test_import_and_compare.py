import json

import pytest
from typer.testing import CliRunner

from harness.analysis.run import analyse_run
from harness.cli import app
from harness.errors import WorkloadError
from tests.unit.harness.synthetic_run import SyntheticRun
from tests.unit.results.published_tables import few_slots, mlenergy_row, table


def harness(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def published(tmp_path):
    path = tmp_path / "published.csv"
    path.write_text(table(mlenergy_row(), few_slots()))
    return path


def test_a_table_is_imported_and_compared_with_one_document_each(published, tmp_path):
    imported = harness("import", published, "--layout", "mlenergy", "--out", tmp_path / "cells.json", "--json")
    assert json.loads(imported.stdout) == json.loads((tmp_path / "cells.json").read_text())
    compared = harness("compare", tmp_path / "cells.json", "--json", "--figure", tmp_path / "terms.png")
    document = json.loads(compared.stdout)
    assert document["schema"] == "inference-energy/agreement/1"
    assert len(document["cells"]) == 2
    assert (tmp_path / "terms.png").read_bytes().startswith(b"\x89PNG")


def test_one_run_folder_is_compared_as_it_always_was(tmp_path):
    run = SyntheticRun().write(tmp_path / "run")
    assert json.loads(harness("compare", run, "--json").stdout) == analyse_run(run).to_json()


def test_several_inputs_become_one_agreement(published, tmp_path):
    run = SyntheticRun().write(tmp_path / "run")
    assert "written to" in harness("import", published, "--out", tmp_path / "cells.json").stdout
    result = harness("compare", run, tmp_path / "cells.json")
    assert result.exit_code == 0
    assert result.stdout.index("Boundary gpu") < result.stdout.index("Boundary node_modelled x PUE")


def test_a_wrong_unit_ends_the_command_with_an_error_and_writes_nothing(published, tmp_path):
    published.write_text(published.read_text().replace("avg_power_watts", "avg_power_kilowatts"))
    result = harness("import", published, "--out", tmp_path / "cells.json")
    assert isinstance(result.exception, WorkloadError)
    assert "avg_power_kilowatts" in str(result.exception)
    assert not (tmp_path / "cells.json").exists()

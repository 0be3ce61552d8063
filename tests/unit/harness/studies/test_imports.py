import json

import pytest

from harness.errors import StoreError, WorkloadError
from harness.studies.imports import import_document, write_cells
from results.imported import load_cells
from tests.unit.results.published_tables import mlenergy_row, table


@pytest.fixture
def published(tmp_path):
    path = tmp_path / "published.csv"
    path.write_text(table(mlenergy_row()))
    return path


@pytest.mark.parametrize(("out", "written"), [("a/b.json", "a/b.json"), ("folder", "folder/published.cells.json")])
def test_cells_are_written_to_a_file_or_into_a_folder(published, tmp_path, out, written):
    document = import_document(published, None)
    assert write_cells(document, tmp_path / out) == tmp_path / written
    assert load_cells(tmp_path / written) == document
    assert json.loads((tmp_path / written).read_text())["schema"] == "inference-energy/cells/1"


def test_a_wrong_table_is_one_error_that_names_row_and_column(published):
    published.write_text(table(mlenergy_row(avg_power_watts="nan")))
    with pytest.raises(WorkloadError, match=r"(?s)published\.csv.*row 2 .*column avg_power_watts"):
        import_document(published, None)


def test_a_table_that_is_not_there_is_one_error(tmp_path):
    with pytest.raises(WorkloadError, match=r"cannot read .*none\.csv"):
        import_document(tmp_path / "none.csv", None)


def test_a_place_that_cannot_be_written_is_one_error(published, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write"):
        write_cells(import_document(published, None), tmp_path / "file" / "cells.json")

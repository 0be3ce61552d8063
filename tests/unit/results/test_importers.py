import csv
import hashlib
from collections import Counter

import pytest

from results.imported import ImportedCells, load_cells
from results.importers import import_table
from tests.paths import S1_TABLE, SHARED
from tests.unit.results.published_tables import LLAMA_405B, MLENERGY_HEADER, few_slots, mlenergy_row, table

DATA = SHARED / "data"
QWEN = DATA / "measured/mlenergy_v3_h100_qwen3.csv"
S1 = S1_TABLE


@pytest.fixture
def imported(tmp_path):
    def read(text, layout=None):
        path = tmp_path / "table.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return import_table(path, layout)

    return read


def test_a_published_row_becomes_a_cell_with_units_and_boundary(imported):
    cell = imported(table(mlenergy_row())).cells[0]
    assert (cell.model, cell.task, cell.concurrency_cap, cell.mean_concurrency) == (
        LLAMA_405B, "lm-arena-chat", 256, 255.5,
    )  # fmt: skip
    assert (cell.tps_tok_per_s, cell.watts, cell.power_boundary) == (2363.0, 4875.0, "gpu")
    assert cell.joules_per_tok == pytest.approx(2.063, abs=5e-4)
    assert cell.wh_per_query == pytest.approx(4875 / 2363 * 367 / 3600)
    assert (cell.mean_output_tok, cell.mean_input_tok) == (367.0, None)
    assert (cell.median_itl_s, cell.p99_itl_s) == (0.09, 0.3)
    server = cell.server
    assert (server.gpu_model, server.gpus, server.tensor_parallel, server.precision, server.engine) == (
        "H100", 8, 8, "fp8", None,
    )  # fmt: skip


def test_the_document_says_where_it_comes_from(imported):
    text = table(mlenergy_row())
    document = imported(text)
    assert (document.layout, document.source_file) == ("mlenergy", "table.csv")
    assert document.source_sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert "Apache-2.0" in document.licence
    assert any("GPUs alone" in note for note in document.notes)


def test_cells_survive_the_way_to_a_file_and_back(imported, tmp_path):
    document = imported(table(mlenergy_row(), few_slots()))
    path = tmp_path / "cells.json"
    path.write_text(document.model_dump_json(by_alias=True))
    assert load_cells(path) == document
    assert document.to_json()["schema"] == "inference-energy/cells/1"


@pytest.mark.parametrize("text", ["{}", "not json", '{"schema": "inference-energy/result/1"}'])
def test_a_file_without_cells_is_refused_by_name(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"other\.json holds no imported cells"):
        load_cells(path)


def test_the_order_of_columns_and_rows_changes_no_cell(imported):
    rows = [mlenergy_row(), few_slots(), mlenergy_row(avg_power_watts=5000.0)]
    plain = imported(table(*rows))
    turned = imported(table(*reversed(rows), header=MLENERGY_HEADER[::-1]))

    def by_id(document: ImportedCells):
        return {cell.id: cell.model_copy(update={"row": 1}) for cell in document.cells}

    assert by_id(plain) == by_id(turned)
    assert len(by_id(plain)) == 3


def test_rows_that_differ_in_something_unpublished_are_told_apart_and_marked(imported):
    cells = imported(table(mlenergy_row(), mlenergy_row(avg_power_watts=5000.0), few_slots())).cells
    assert len({cell.id for cell in cells}) == 3
    assert ["not published" in " ".join(cell.notes) for cell in cells] == [True, True, False]
    assert len({cell.group for cell in cells}) == 1


def test_a_row_that_repeats_another_is_left_out_and_said(imported):
    document = imported(table(mlenergy_row(), few_slots(), mlenergy_row()))
    assert len(document.cells) == 2
    assert "row 4 repeats row 2 in every value and is left out" in document.notes


def test_missing_latencies_and_parameter_counts_are_unknown_not_zero(imported):
    blank = dict.fromkeys(("median_itl_ms", "p99_itl_ms", "total_params_billions", "activated_params_billions"), "")
    cell = imported(table(mlenergy_row(**blank))).cells[0]
    assert (cell.median_itl_s, cell.p99_itl_s, cell.total_params_billions, cell.active_params_billions) == (None,) * 4


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("avg_power_watts", "nan", "'nan' is not a positive finite number"),
        ("avg_power_watts", "-5", "'-5' is not a positive finite number"),
        ("output_throughput_tokens_per_sec", "inf", "'inf' is not a positive finite number"),
        ("output_throughput_tokens_per_sec", "fast", "'fast' is not a number"),
        ("avg_output_len", "0", "'0' is not a positive finite number"),
        ("avg_output_len", "", "is empty"),
        ("avg_output_len", "0.4", "at least 1 token"),
        ("num_gpus", "1.5", "'1.5' is not a whole number"),
        ("max_num_seqs", "many", "'many' is not a number"),
        ("model_id", " ", "is empty"),
        ("p99_itl_ms", "-1", "'-1' is not a positive finite number"),
        ("energy_per_token_joules", 2.06306, "contradicts itself"),
        ("energy_per_request_joules", 757.2, "contradicts itself"),
    ],
)
def test_a_wrong_value_is_refused_with_its_row_and_column(imported, column, value, said):
    with pytest.raises(ValueError, match=rf"row 3 \(the header is row 1\), column {column}: .*{said}"):
        imported(table(few_slots(), mlenergy_row(**{column: value})))


def renamed(old, new):
    return table(mlenergy_row()).replace(old, new)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "table is empty: not even a header"),
        (",".join(MLENERGY_HEADER) + "\n", "table is empty: a header without rows"),
        (
            renamed("avg_power_watts", "avg_power_kilowatts"),
            "unknown unit: avg_power_kilowatts, where .* avg_power_watts",
        ),
        (renamed("p99_itl_ms", "p99_itl_s"), "unknown unit: p99_itl_s"),
        (renamed("architecture", "avg_power_kw"), "unknown unit: avg_power_kw"),
        (renamed("task,", "job,"), "columns missing: mlenergy needs task; s1 needs model, quantization"),
        (renamed("task,", "model_id,"), "names a column twice: model_id"),
        (table(mlenergy_row()) + "1,2,3\n", r"row 3 .* has 3 values, the header 18"),
        ("a,b\n1,2\n", "columns missing"),
        (b"\xff\xfe\x00", "not a text file in UTF-8"),
        ('a,b\n"1,2\n', "not a CSV table"),
    ],
)
def test_a_table_of_no_known_layout_gets_one_clear_error(imported, text, said):
    with pytest.raises(ValueError, match=said):
        imported(text)


def test_a_layout_that_is_named_is_the_one_checked(imported):
    with pytest.raises(ValueError, match="columns missing: s1 needs model, "):
        imported(table(mlenergy_row()), "s1")
    with pytest.raises(ValueError, match="did you mean 'mlenergy'"):
        imported(table(mlenergy_row()), "mlenergi")


def test_a_byte_order_mark_and_windows_lines_do_no_harm(imported):
    assert len(imported(b"\xef\xbb\xbf" + table(mlenergy_row()).replace("\n", "\r\n").encode()).cells) == 1


def test_a_column_that_is_not_used_is_named(imported):
    header = [*MLENERGY_HEADER, "nickname"]
    document = imported(table(mlenergy_row(nickname="L"), header=header))
    assert "column nickname is not used" in document.notes


def test_the_rows_of_supplemental_i_become_saturated_cells_without_energy():
    document = import_table(S1)
    assert (document.layout, len(document.cells)) == ("s1", 38)
    cell = document.cells[0]
    assert (cell.model, cell.server.gpus, cell.tps_tok_per_s) == ("Llama 3.1 405B", 8, 2050.0)
    assert (cell.mean_input_tok, cell.mean_output_tok, cell.task) == (500, 2000, "fixed:500x2000")
    assert (cell.watts, cell.joules_per_tok, cell.wh_per_query, cell.power_boundary) == (None,) * 4
    assert all(cell.source_says_saturated for cell in document.cells)
    assert Counter(cell.server.gpus for cell in document.cells) == {8: 35, 10: 3}


def test_the_error_of_a_throughput_is_allowed_in_the_s1_layout_and_said_to_be_unused(imported):
    header, *rows = S1.read_text().splitlines()
    document = imported("\n".join([f"{header},tps_sd_log", *(f"{row},0.05" for row in rows)]))
    assert len(document.cells) == len(rows)
    assert "column tps_sd_log is not used" in document.notes


def test_seconds_in_the_s1_layout_are_refused(imported):
    text = S1.read_text().replace("tps_tok_per_s", "tps_tok_per_min")
    with pytest.raises(ValueError, match="unknown unit: tps_tok_per_min"):
        imported(text)


@pytest.mark.skipif(not QWEN.is_file(), reason=f"{QWEN} is not here")
def test_the_published_qwen3_table_becomes_cells_with_the_energies_it_states():
    document = import_table(QWEN)
    with QWEN.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(document.cells) == len(rows) == 107
    assert len({(cell.task, cell.model) for cell in document.cells}) == 12
    assert len({cell.group for cell in document.cells}) == 14
    assert len({(cell.group, cell.task) for cell in document.cells}) == 17
    assert len({cell.id for cell in document.cells}) == 107
    for cell, row in zip(document.cells, rows, strict=True):
        assert cell.joules_per_tok == pytest.approx(float(row["energy_per_token_joules"]), rel=1e-9)
        assert 3600 * cell.wh_per_query == pytest.approx(float(row["energy_per_request_joules"]), rel=1e-9)
    assert [cell.row for cell in document.cells if cell.notes] == [63, 64, 66, 67]

import csv
import hashlib
import statistics

import pytest

from tests.paths import SHARED
from workloads.traces import WorkloadFileError, read_azure

REAL = SHARED / "data/traces/AzureLLMInferenceTrace_conv.csv"
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def write(folder, rows, header=HEADER):
    path = folder / "trace.csv"
    path.write_text(header + rows)
    return path


def test_a_good_trace_gives_its_lengths_in_order_and_the_hash_of_its_bytes(tmp_path):
    path = write(tmp_path, "a,374,44\nb,396,109\nc,91,16\n")
    shape = read_azure(path)
    assert (shape.input_tok.tolist(), shape.output_tok.tolist()) == ([374, 396, 91], [44, 109, 16])
    assert shape.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_missing_trace_is_refused_with_the_reason(tmp_path):
    with pytest.raises(WorkloadFileError, match=r"none\.csv: No such file"):
        read_azure(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("TIMESTAMP,ContextTokens\n", "a,1\n", "GeneratedTokens"),
        ("", "", "not an Azure trace"),
        (HEADER, "", "no requests"),
    ],
    ids=["a column is missing", "an empty file", "a header alone"],
)
def test_a_file_that_is_no_trace_is_refused(tmp_path, header, rows, message):
    with pytest.raises(WorkloadFileError, match=message):
        read_azure(write(tmp_path, rows, header))


@pytest.mark.parametrize(
    ("bad_row", "column"),
    [
        ("b,0,5", "ContextTokens"),
        ("b,5,-1", "GeneratedTokens"),
        ("b,5,1.5", "GeneratedTokens"),
        ("b,many,5", "ContextTokens"),
        ("b,5,", "GeneratedTokens"),
        ("b,inf,5", "ContextTokens"),
    ],
)
def test_a_bad_request_is_named_by_its_number_and_column(tmp_path, bad_row, column):
    with pytest.raises(WorkloadFileError, match=f"request 2 has {column}"):
        read_azure(write(tmp_path, f"a,1,1\n{bad_row}\nc,0,0\n"))


@pytest.mark.skipif(not REAL.is_file(), reason=f"the Azure trace is not at {REAL}")
def test_the_real_trace_has_the_lengths_that_a_plain_loop_counts():
    with REAL.open() as file:
        rows = [(int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in csv.DictReader(file)]
    shape = read_azure(REAL)
    lengths = shape.lengths(1.0)
    outputs = [output for _, output in rows]
    assert len(rows) == shape.input_tok.size == 19_366
    assert lengths.mean_input_tok == pytest.approx(sum(inputs for inputs, _ in rows) / len(rows))
    assert lengths.mean_output_tok == pytest.approx(sum(outputs) / len(rows))
    assert lengths.median_output_tok == statistics.median_low(outputs)

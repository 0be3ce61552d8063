import csv
from collections import Counter

import pytest

from estimator.throughput.s1 import TpsRow, load_s1, match_s1_model, read_tps_table, rows_for, s1_models
from tests.paths import SHARED

REFERENCE = SHARED / "data/tps_benchmark_s1.csv"


def test_the_rows_are_those_of_the_paper_by_model():
    assert Counter(row.model for row in load_s1()) == {
        "Llama 3.1 405B": 13,
        "Llama 3.1 70B": 11,
        "Mixtral 8x22B": 9,
        "DeepSeek-R1": 3,
        "Llama-3.1 Nemotron Ultra 253B": 2,
    }
    assert {row.gpus for row in rows_for("DeepSeek-R1")} == {10}
    assert {row.quantization for row in load_s1()} == {"FP8"}


def test_a_row_carries_every_column():
    assert rows_for("Llama 3.1 405B")[3] == TpsRow(
        "Llama 3.1 405B", 8, "FP8", 4572.23, 128, 2048, "tensorRT-LLM-May2025 v019"
    )


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference copy of Supplemental I is not beside this checkout")
def test_the_packaged_rows_equal_the_reference_copy():
    with REFERENCE.open(encoding="utf-8", newline="") as file:
        reference = [
            TpsRow(
                row["model"],
                int(row["tensor_parallel"]),
                row["quantization"],
                float(row["tps_tok_per_s"]),
                int(row["input_len_tok"]),
                int(row["output_len_tok"]),
                row["source"],
            )
            for row in csv.DictReader(file)
        ]
    assert list(load_s1()) == reference


def test_an_unknown_model_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"did you mean 'Llama 3\.1 405B'"):
        rows_for("llama 3.1 405b")


@pytest.mark.parametrize(
    ("model_id", "name"),
    [
        ("meta-llama/Llama-3.1-405B-Instruct-FP8", "Llama 3.1 405B"),
        ("meta-llama/Llama-3.1-405B-FP8", "Llama 3.1 405B"),
        ("RedHatAI/Meta-Llama-3.1-405B-Instruct-FP8-dynamic", "Llama 3.1 405B"),
        ("amd/Llama-3.1-405B-Instruct-FP8-KV", "Llama 3.1 405B"),
        ("RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8", "Llama 3.1 70B"),
        ("nvidia/Llama-3.1-70B-Instruct-FP8", "Llama 3.1 70B"),
        ("RedHatAI/Mixtral-8x22B-Instruct-v0.1-FP8", "Mixtral 8x22B"),
        ("nvidia/Llama-3_1-Nemotron-Ultra-253B-v1-FP8", "Llama-3.1 Nemotron Ultra 253B"),
        ("deepseek-ai/DeepSeek-R1", "DeepSeek-R1"),
        ("/models/deepseek-r1/", "DeepSeek-R1"),
    ],
)
def test_fp8_checkpoints_of_the_benchmarked_models_match(model_id, name):
    assert match_s1_model(model_id) == name
    assert rows_for(name)


@pytest.mark.parametrize(
    "model_id",
    [
        "meta-llama/Llama-3.1-405B-Instruct",
        "meta-llama/Llama-3.1-70B-Instruct",
        "mistralai/Mixtral-8x22B-Instruct-v0.1",
        "nvidia/Llama-3_1-Nemotron-Ultra-253B-v1",
        "RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic",
        "meta-llama/Llama-3.1-8B-Instruct-FP8",
        "RedHatAI/Mixtral-8x7B-Instruct-v0.1-FP8",
        "nvidia/Llama-3.1-405B-Instruct-FP4",
        "nvidia/Llama-3.1-Nemotron-70B-Instruct-FP8",
        "deepseek-ai/DeepSeek-R1-Distill-Llama-70B",
        "RedHatAI/DeepSeek-R1-Distill-Llama-70B-FP8",
        "deepseek-ai/DeepSeek-R1-Zero",
        "nvidia/DeepSeek-R1-FP4",
        "deepseek-ai/DeepSeek-V3",
        "someone/finetune-of-Llama-3.1-70B-Instruct-FP8",
        "",
    ],
)
def test_any_other_checkpoint_matches_nothing(model_id):
    assert match_s1_model(model_id) is None


@pytest.mark.parametrize(
    ("model_id", "quantization", "name"),
    [
        ("meta-llama/Llama-3.1-70B-Instruct", "fp8", "Llama 3.1 70B"),
        ("meta-llama/Llama-3.1-70B-Instruct", "bf16", None),
        ("RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8", "awq", None),
        ("deepseek-ai/DeepSeek-R1", "nvfp4", None),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "fp8", None),
    ],
)
def test_a_stated_quantization_decides_over_the_id(model_id, quantization, name):
    assert match_s1_model(model_id, quantization) == name


HEADER = "model,tensor_parallel,quantization,tps_tok_per_s,input_len_tok,output_len_tok,source"


def table(*lines: str, header: str = HEADER) -> str:
    return "\n".join([header, *lines]) + "\n"


def test_a_table_may_order_its_columns_freely_and_carry_errors_and_others():
    text = table(
        "s,1.5,300,m,8,FP8,0.02,note,500",
        "s,2.5,300,m,8,FP8,,note,600",
        header="source,tps_tok_per_s,output_len_tok,model,tensor_parallel,quantization,tps_sd_log,remark,input_len_tok",
    )
    assert read_tps_table(text) == (
        TpsRow("m", 8, "FP8", 1.5, 500, 300, "s", 0.02), TpsRow("m", 8, "FP8", 2.5, 600, 300, "s", None),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the table is empty: it needs a header"),
        (HEADER + "\n", "the table is empty: it has no row"),
        (table("m", header="model"), "column tensor_parallel: missing"),
        (table(header=HEADER.replace("tps_tok_per_s", "tps_tok_per_min")),
         r"column tps_tok_per_min: expected tps_tok_per_s \(output tokens per second of the whole node\)"),
        (table(header=HEADER.replace("input_len_tok", "input_len_ktok")), "input_len_ktok: expected input_len_tok"),
        (table(header=HEADER + ",output_len_ktok"), "column output_len_ktok: expected output_len_tok"),
        (table(header=HEADER + ",model"), "column model: it is there twice"),
        (table("m,8,FP8,1,5,5,s", "m,8,FP8,nan,5,5,s"), "row 2, column tps_tok_per_s: expected a .* number, got 'nan'"),
        (table("m,8,FP8,-1,5,5,s"), "row 1, column tps_tok_per_s: expected a positive number, got '-1'"),
        (table("m,8,FP8,inf,5,5,s"), "row 1, column tps_tok_per_s: expected a positive number"),
        (table("m,8,FP8,fast,5,5,s"), "row 1, column tps_tok_per_s: expected a positive number, got 'fast'"),
        (table("m,8,FP8,1,0,5,s"), "row 1, column input_len_tok: expected a positive number, got '0'"),
        (table("m,8,FP8,1,5,1e300,s"), r"row 1, column output_len_tok: 1e300 lies outside 1e-09 to 1e\+09"),
        (table("m,8,FP8,1e-300,5,5,s"), "row 1, column tps_tok_per_s: 1e-300 lies outside"),
        (table("m,8,FP8,1,5,5.5,s"), "row 1, column output_len_tok: expected a whole number, got '5.5'"),
        (table("m,,FP8,1,5,5,s"), "row 1, column tensor_parallel: it is empty"),
        (table("m,8,FP8,1,5"), "row 1: it has not as many fields as the header"),
        (table("m,8,FP8,1,5,5,s,more"), "row 1: it has not as many fields as the header"),
        (table("m,8,FP8,1,5,5,s,-0.1", header=HEADER + ",tps_sd_log"), "row 1, column tps_sd_log"),
    ],
)  # fmt: skip
def test_a_table_that_makes_no_sense_is_refused_by_row_and_column(text, message):
    with pytest.raises(ValueError, match=message):
        read_tps_table(text)


def test_every_benchmarked_model_has_a_published_size():
    assert {model.model for model in s1_models()} == {row.model for row in load_s1()}
    assert all(0 < model.active_params_billions <= model.total_params_billions for model in s1_models())

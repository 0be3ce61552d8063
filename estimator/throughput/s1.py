"""Throughput rows in the layout of the paper's Supplemental I: its own or a table's, and which models they describe."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from estimator.names import unknown_name_error


@dataclass(frozen=True)
class TpsRow:
    """One saturated throughput measurement of a whole node at fixed lengths.

    ``tps_sd_log`` is the standard error of log TPS, that is the relative one of TPS; None where unknown.
    """

    model: str
    gpus: int
    quantization: str
    tps_tok_per_s: float
    input_tok: int
    output_tok: int
    source: str
    tps_sd_log: float | None = None


@dataclass(frozen=True)
class S1Model:
    """What is published of the size of a model of Supplemental I, in billions of parameters."""

    model: str
    active_params_billions: float
    """Parameters that one token uses; all of them in a dense model."""
    total_params_billions: float
    citation: str


@dataclass(frozen=True)
class _KnownModel:
    s1_name: str
    base_id: str
    """Regular expression for the checkpoint's name without organisation and quantization suffix."""
    natively_fp8: bool = False


_KNOWN_MODELS = (
    _KnownModel("Llama 3.1 405B", r"(Meta-)?Llama-3[._]1-405B(-Instruct)?"),
    _KnownModel("Llama 3.1 70B", r"(Meta-)?Llama-3[._]1-70B(-Instruct)?"),
    _KnownModel("Mixtral 8x22B", r"Mixtral-8x22B(-Instruct)?-v0[._]1"),
    _KnownModel("Llama-3.1 Nemotron Ultra 253B", r"Llama-3[._]1-Nemotron-Ultra-253B(-CPT)?-v1"),
    _KnownModel("DeepSeek-R1", r"DeepSeek-R1", natively_fp8=True),
)
_FP8_SUFFIX = r"(?P<fp8>-FP8(-dynamic|-KV)?)?"


@cache
def load_s1() -> tuple[TpsRow, ...]:
    """Return all rows of Supplemental I, in the paper's order.

    >>> len(load_s1())
    38
    """
    return read_tps_table(_data("tps_s1.csv"))


@cache
def s1_models() -> tuple[S1Model, ...]:
    """Return the published sizes of the models of Supplemental I.

    >>> {model.model: model.active_params_billions for model in s1_models()}["Mixtral 8x22B"]
    39.0
    """
    return tuple(
        S1Model(
            row["model"], float(row["active_params_billions"]), float(row["total_params_billions"]), row["citation"]
        )
        for row in csv.DictReader(_data("s1_models.csv").splitlines())
    )


def _data(name: str) -> str:
    return (files("estimator") / "data" / name).read_text(encoding="utf-8")


_COLUMNS = {
    "model": "the model's name",
    "tensor_parallel": "the number of GPUs",
    "quantization": "the number format of the weights",
    "tps_tok_per_s": "output tokens per second of the whole node",
    "input_len_tok": "input tokens of a query",
    "output_len_tok": "output tokens of a query",
    "source": "where the row is from",
}
_OPTIONAL = {"tps_sd_log": "relative standard error of TPS"}
_SMALLEST, _LARGEST = 1e-9, 1e9
"""No server's throughput, length or relative error lies outside: such a number is a slip of unit or of the pen."""
_STEMS = ("tps", "input_len", "output_len")


def read_tps_table(text: str) -> tuple[TpsRow, ...]:
    """Return the rows of a CSV text in the layout of Supplemental I.

    The columns are model, tensor_parallel, quantization, tps_tok_per_s, input_len_tok, output_len_tok and
    source, in any order, and optionally tps_sd_log; other columns are ignored. Raises ValueError that names the
    row (1 is the first after the header) and the column: for a missing, doubled or other-unit column, an empty
    table, or a value that is not a positive number, or for lengths and GPUs not a positive integer.

    >>> read_tps_table("model,tps_tok_per_min\\nm,3\\n")
    Traceback (most recent call last):
    ValueError: column tps_tok_per_min: expected tps_tok_per_s (output tokens per second of the whole node)
    """
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    _check_header([name.strip() for name in reader.fieldnames or ()])
    reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
    rows = tuple(_row(number, fields) for number, fields in enumerate(reader, start=1))
    if not rows:
        raise ValueError("the table is empty: it has no row after its header")
    return rows


def _check_header(names: list[str]) -> None:
    known = _COLUMNS | _OPTIONAL
    if not names:
        raise ValueError(f"the table is empty: it needs a header with {', '.join(_COLUMNS)}")
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise ValueError(f"column {doubled[0]}: it is there twice")
    for name in names:
        stem = next((stem for stem in _STEMS if name.casefold().startswith(stem)), None)
        if stem is not None and name not in known:
            expected = next(column for column in _COLUMNS if column.startswith(stem))
            raise ValueError(f"column {name}: expected {expected} ({_COLUMNS[expected]})")
    missing = [name for name in _COLUMNS if name not in names]
    if missing:
        raise ValueError(f"column {missing[0]}: missing ({_COLUMNS[missing[0]]}); the header has {', '.join(names)}")


def _row(number: int, fields: dict[str, str]) -> TpsRow:
    if None in fields or None in fields.values():
        raise ValueError(f"row {number}: it has not as many fields as the header")
    sd_log = fields.get("tps_sd_log", "").strip()
    return TpsRow(
        model=_text(number, fields, "model"),
        gpus=_integer(number, fields, "tensor_parallel"),
        quantization=fields["quantization"].strip(),
        tps_tok_per_s=_positive(number, fields, "tps_tok_per_s"),
        input_tok=_integer(number, fields, "input_len_tok"),
        output_tok=_integer(number, fields, "output_len_tok"),
        source=fields["source"].strip(),
        tps_sd_log=_positive(number, fields, "tps_sd_log") if sd_log else None,
    )


def _text(number: int, fields: dict[str, str], column: str) -> str:
    value = fields[column].strip()
    if not value:
        raise ValueError(f"row {number}, column {column}: it is empty")
    return value


def _positive(number: int, fields: dict[str, str], column: str) -> float:
    text = _text(number, fields, column)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"row {number}, column {column}: expected a positive number, got {text!r}")
    if not _SMALLEST <= value <= _LARGEST:
        raise ValueError(f"row {number}, column {column}: {text} lies outside {_SMALLEST:g} to {_LARGEST:g}")
    return value


def _integer(number: int, fields: dict[str, str], column: str) -> int:
    value = _positive(number, fields, column)
    if value != round(value):
        raise ValueError(f"row {number}, column {column}: expected a whole number, got {fields[column].strip()!r}")
    return round(value)


def rows_for(model: str) -> tuple[TpsRow, ...]:
    """Return the rows of one model by its name in Supplemental I; raises ValueError naming the nearest name.

    >>> [row.tps_tok_per_s for row in rows_for("DeepSeek-R1")]
    [886.0, 1300.0, 378.0]
    """
    return rows_named(load_s1(), model, "Supplemental I model")


def rows_named(rows: Iterable[TpsRow], model: str, kind: str = "model") -> tuple[TpsRow, ...]:
    """Return the rows of one model; raises ValueError naming the nearest known name, where ``kind`` says of what."""
    every = tuple(rows)
    named = tuple(row for row in every if row.model == model)
    if not named:
        raise unknown_name_error(kind, model, {row.model for row in every})
    return named


def match_s1_model(model_id: str, quantization: str | None = None) -> str | None:
    """Return the Supplemental I name of a served model, or None where no row describes it.

    ``model_id`` is a Hugging Face id or a local folder whose last part is the checkpoint's name. All rows are
    FP8: the id must say so, or the model must be natively FP8, or ``quantization`` (the weights' number
    format, such as "fp8", where the server states it) must. A stated format wins over the id.

    >>> match_s1_model("meta-llama/Llama-3.1-405B-Instruct-FP8")
    'Llama 3.1 405B'
    >>> match_s1_model("deepseek-ai/DeepSeek-R1-Distill-Llama-70B") is None
    True
    """
    checkpoint = model_id.rstrip("/").rsplit("/", maxsplit=1)[-1]
    for known in _KNOWN_MODELS:
        match = re.fullmatch(known.base_id + _FP8_SUFFIX, checkpoint, flags=re.IGNORECASE)
        if match:
            is_fp8 = known.natively_fp8 or match["fp8"] is not None
            if quantization is not None:
                is_fp8 = quantization.casefold().startswith("fp8")
            return known.s1_name if is_fp8 else None
    return None

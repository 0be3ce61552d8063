"""The benchmark rows of the paper's Supplemental I, and which served models they describe."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from estimator.names import unknown_name_error


@dataclass(frozen=True)
class TpsRow:
    """One saturated throughput measurement of a whole node at fixed lengths."""

    model: str
    gpus: int
    quantization: str
    tps_tok_per_s: float
    input_tok: int
    output_tok: int
    source: str


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
    text = (files("estimator") / "data" / "tps_s1.csv").read_text(encoding="utf-8")
    return tuple(
        TpsRow(
            model=row["model"],
            gpus=int(row["tensor_parallel"]),
            quantization=row["quantization"],
            tps_tok_per_s=float(row["tps_tok_per_s"]),
            input_tok=int(row["input_len_tok"]),
            output_tok=int(row["output_len_tok"]),
            source=row["source"],
        )
        for row in csv.DictReader(text.splitlines())
    )


def rows_for(model: str) -> tuple[TpsRow, ...]:
    """Return the rows of one model by its name in Supplemental I; raises ValueError naming the nearest name.

    >>> [row.tps_tok_per_s for row in rows_for("DeepSeek-R1")]
    [886.0, 1300.0, 378.0]
    """
    rows = tuple(row for row in load_s1() if row.model == model)
    if not rows:
        raise unknown_name_error("Supplemental I model", model, {row.model for row in load_s1()})
    return rows


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

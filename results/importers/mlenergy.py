"""The layout of the ML.ENERGY leaderboard v3 data: steady-state servers, power of the GPUs alone."""

from __future__ import annotations

import math

from estimator.eq1 import Eq1Terms
from results.imported import ImportedCell, ImportedServer
from results.importers.table import Layout, Row

DERIVED_REL_TOLERANCE = 1e-6

LAYOUT = Layout(
    name="mlenergy",
    columns=(
        "task",
        "model_id",
        "architecture",
        "total_params_billions",
        "activated_params_billions",
        "weight_precision",
        "gpu_model",
        "num_gpus",
        "tensor_parallel",
        "max_num_seqs",
        "avg_batch_size",
        "avg_output_len",
        "energy_per_request_joules",
        "energy_per_token_joules",
        "output_throughput_tokens_per_sec",
        "avg_power_watts",
        "median_itl_ms",
        "p99_itl_ms",
    ),
    quantities={
        "total_params": "total_params_billions",
        "activated_params": "activated_params_billions",
        "avg_output_len": "avg_output_len",
        "energy_per_request": "energy_per_request_joules",
        "energy_per_token": "energy_per_token_joules",
        "output_throughput": "output_throughput_tokens_per_sec",
        "avg_power": "avg_power_watts",
        "median_itl": "median_itl_ms",
        "p99_itl": "p99_itl_ms",
    },
    source="ML.ENERGY leaderboard v3 data, by the layout of its columns",
    licence="Apache-2.0 by the card of the ML.ENERGY leaderboard v3 data set; the file itself states none",
    notes=(
        "power is that of the GPUs alone, summed over them: no host, no PUE",
        "input lengths and the engine are not published",
        "energy per token and per request follow from power, throughput and length: they are no further measurements",
    ),
)


def cell_of(row: Row) -> ImportedCell:
    """Return the row as a cell; raises ValueError naming row and column where it is wrong or contradicts itself."""
    watts, tps = row.positive("avg_power_watts"), row.positive("output_throughput_tokens_per_sec")
    output_tok = row.positive("avg_output_len")
    if output_tok < 1:
        raise row.error("avg_output_len", f"{output_tok:g} is less than the at least 1 token that a query has")
    joules_per_tok = row.positive("energy_per_token_joules")
    _check_derived(row, "energy_per_token_joules", watts / tps, "avg_power_watts / output_throughput_tokens_per_sec")
    _check_derived(
        row, "energy_per_request_joules", joules_per_tok * output_tok, "energy_per_token_joules * avg_output_len"
    )
    terms = Eq1Terms(pue=1.0, node_power_kw=watts / 1000, output_tok=output_tok, tps_tok_per_s=tps)
    server = ImportedServer(
        gpu_model=row.text("gpu_model"),
        gpus=row.count("num_gpus"),
        tensor_parallel=row.count("tensor_parallel"),
        precision=row.text("weight_precision"),
        engine=None,
    )
    model, task, cap = row.text("model_id"), row.text("task"), row.count("max_num_seqs")
    return ImportedCell(
        id=f"{model}/{task}/{server.label.replace(' ', '-')}/cap{cap}",
        row=row.number,
        server=server,
        model=model,
        architecture=row.values["architecture"].strip() or None,
        total_params_billions=row.positive_or_none("total_params_billions"),
        active_params_billions=row.positive_or_none("activated_params_billions"),
        task=task,
        concurrency_cap=cap,
        mean_concurrency=row.positive("avg_batch_size"),
        tps_tok_per_s=tps,
        watts=watts,
        power_boundary="gpu",
        mean_output_tok=output_tok,
        joules_per_tok=watts / tps,
        wh_per_query=terms.energy_wh,
        median_itl_s=_seconds(row.positive_or_none("median_itl_ms")),
        p99_itl_s=_seconds(row.positive_or_none("p99_itl_ms")),
    )


def _check_derived(row: Row, column: str, expected: float, formula: str) -> None:
    value = row.positive(column)
    if not math.isclose(value, expected, rel_tol=DERIVED_REL_TOLERANCE):
        raise row.error(column, f"{value:.9g} is not {formula} = {expected:.9g}: the row contradicts itself")


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000

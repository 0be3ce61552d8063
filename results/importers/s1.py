"""The layout of Supplemental I of Oviedo et al.: throughput of saturated nodes at fixed lengths, without power."""

from __future__ import annotations

from results.imported import ImportedCell, ImportedServer
from results.importers.table import Layout, Row

LAYOUT = Layout(
    name="s1",
    columns=(
        "model",
        "tensor_parallel",
        "quantization",
        "tps_tok_per_s",
        "input_len_tok",
        "output_len_tok",
        "source",
    ),
    quantities={"tps": "tps_tok_per_s", "input_len": "input_len_tok", "output_len": "output_len_tok"},
    unused=("tps_sd_log",),
    source="the layout of Supplemental I of Oviedo et al., Energy Use of AI Inference; each cell names its own source",
    licence="not stated in the file",
    notes=(
        "throughput of a saturated node at fixed lengths, as the layout defines it; concurrency is not published",
        "power is not published: these cells have no energy",
        "the number of GPUs is that of tensor_parallel; the GPU itself is not named",
    ),
)


def cell_of(row: Row) -> ImportedCell:
    """Return the row as a cell; raises ValueError naming row and column where it is wrong."""
    model, source, gpus = row.text("model"), row.text("source"), row.count("tensor_parallel")
    input_tok, output_tok = row.count("input_len_tok"), row.count("output_len_tok")
    server = ImportedServer(
        gpu_model=None, gpus=gpus, tensor_parallel=gpus, precision=row.text("quantization"), engine=source
    )
    task = f"fixed:{input_tok}x{output_tok}"
    return ImportedCell(
        id=f"{model}/{task}/{server.label}".replace(" ", "-"),
        row=row.number,
        server=server,
        model=model,
        task=task,
        source_says_saturated=True,
        tps_tok_per_s=row.positive("tps_tok_per_s"),
        mean_input_tok=input_tok,
        mean_output_tok=output_tok,
    )

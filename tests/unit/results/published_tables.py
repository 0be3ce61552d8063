"""Published tables made by hand, in the layouts that others use."""

_HEADER = (
    "task,model_id,architecture,total_params_billions,activated_params_billions,weight_precision,gpu_model,num_gpus,"
    "tensor_parallel,max_num_seqs,avg_batch_size,avg_output_len,energy_per_request_joules,energy_per_token_joules,"
    "output_throughput_tokens_per_sec,avg_power_watts,median_itl_ms,p99_itl_ms"
)
MLENERGY_HEADER = _HEADER.split(",")

LLAMA_405B = "meta-llama/Llama-3.1-405B-Instruct-FP8"


def mlenergy_row(**changed):
    """One row; energies follow from power, throughput and length unless they are changed themselves."""
    row = {
        "task": "lm-arena-chat", "model_id": LLAMA_405B, "architecture": "Dense Transformer",
        "total_params_billions": 405.0, "activated_params_billions": 405.0, "weight_precision": "fp8",
        "gpu_model": "H100", "num_gpus": 8, "tensor_parallel": 8, "max_num_seqs": 256, "avg_batch_size": 255.5,
        "avg_output_len": 367.0, "output_throughput_tokens_per_sec": 2363.0, "avg_power_watts": 4875.0,
        "median_itl_ms": 90.0, "p99_itl_ms": 300.0,
    }  # fmt: skip
    row |= {name: value for name, value in changed.items() if name in row}
    try:
        row["energy_per_token_joules"] = row["avg_power_watts"] / row["output_throughput_tokens_per_sec"]
        row["energy_per_request_joules"] = row["energy_per_token_joules"] * row["avg_output_len"]
    except (TypeError, ZeroDivisionError):
        row |= {"energy_per_token_joules": 1.0, "energy_per_request_joules": 1.0}
    return row | changed


def few_slots(**changed):
    """The same server with 8 slots."""
    slow = {"max_num_seqs": 8, "avg_batch_size": 8.0, "output_throughput_tokens_per_sec": 233.0}
    return mlenergy_row(**{**slow, "avg_power_watts": 3260.0, **changed})


def table(*rows, header=None):
    """The rows as CSV text."""
    header = header or MLENERGY_HEADER
    return "\n".join([",".join(header), *(",".join(str(row[column]) for column in header) for row in rows)]) + "\n"

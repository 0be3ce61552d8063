"""The paper's Monte Carlo written out one query at a time, from its text, sharing no code with the package."""

import csv
import math
import random

from tests.paths import S1_TABLE

Z95 = 1.6448536269514722
TABLE = S1_TABLE
P_MAX_KW = {8: 11.3, 10: 14.1}
MEDIAN_OUTPUT_TOK = {"traditional": 300, "test-time": 5000}


def _solve(a: list[list[float]], b: list[float]) -> list[float]:
    """Gaussian elimination with partial pivoting."""
    n = len(b)
    rows = [[*row, value] for row, value in zip(a, b, strict=True)]
    for i in range(n):
        pivot = max(range(i, n), key=lambda k: abs(rows[k][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for k in range(i + 1, n):
            factor = rows[k][i] / rows[i][i]
            rows[k] = [x - factor * y for x, y in zip(rows[k], rows[i], strict=True)]
    x = [0.0] * n
    for i in reversed(range(n)):
        x[i] = (rows[i][n] - sum(rows[i][k] * x[k] for k in range(i + 1, n))) / rows[i][i]
    return x


def _throughput(model: str):
    """S.II: log-linear least squares capped at the largest TPS, or that TPS alone below three rows."""
    with TABLE.open() as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == model]
    tps = [float(row["tps_tok_per_s"]) for row in rows]
    if len(rows) < 3:
        return int(rows[0]["tensor_parallel"]), lambda _: max(tps)
    x = [[1.0, math.log(float(row["input_len_tok"])), math.log(float(row["output_len_tok"]))] for row in rows]
    y = [math.log(value) for value in tps]
    gram = [[sum(r[i] * r[j] for r in x) for j in range(3)] for i in range(3)]
    moment = [sum(r[i] * value for r, value in zip(x, y, strict=True)) for i in range(3)]
    b0, b1, b2 = _solve(gram, moment)
    known: dict[int, float] = {}

    def at(output_tok: int) -> float:
        if output_tok not in known:
            known[output_tok] = min(math.exp(b0 + b1 * math.log(500) + b2 * math.log(output_tok)), max(tps))
        return known[output_tok]

    return int(rows[0]["tensor_parallel"]), at


def energies_wh(model: str, regime: str, n: int, *, seed: int, pue_p95: float = 1.40) -> list[float]:
    """Energies of ``n`` queries in Wh, sorted."""
    gpus, tps = _throughput(model)
    draw = random.Random(seed)  # noqa: S311
    mu_power, sigma_power = math.log(P_MAX_KW[gpus] * math.sqrt(0.4 * 0.9)), math.log(0.9 / 0.4) / (2 * Z95)
    mu_pue, sigma_pue = math.log(1.05 * pue_p95) / 2, math.log(pue_p95 / 1.05) / (2 * Z95)
    mean_tok = MEDIAN_OUTPUT_TOK[regime] / math.log(2)
    energies = []
    for _ in range(n):
        output_tok = max(1, round(draw.expovariate(1 / mean_tok)))
        power_kw = math.exp(draw.normalvariate(mu_power, sigma_power))
        pue = math.exp(draw.normalvariate(mu_pue, sigma_pue))
        energies.append(pue / 3.6 * power_kw * output_tok / tps(output_tok))
    return sorted(energies)


def quantile(in_order: list[float], probability: float) -> float:
    return in_order[min(len(in_order) - 1, int(probability * len(in_order)))]


def trimmed_twice(in_order: list[float]) -> list[float]:
    for low, high in ((0.05, 0.95), (0.10, 0.90)):
        in_order = in_order[round(low * len(in_order)) : round(high * len(in_order))]
    return in_order

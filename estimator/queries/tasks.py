"""Tasks of several steps: what a query costs that calls the model many times over a growing context.

Every step is a request of its own, or several samples of one: its input is the context so far, and by Eq. 1 each
sample costs its output over the throughput at that input. Nothing of a context is reused from the step before
(no prefix cache), so every step pays its prefill again, once, through TPS(L_in, L_out).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from estimator.distributions import LogNormal
from estimator.eq1 import energy_per_query_wh
from estimator.lengths import IntArray, LengthDistribution, exponential_lengths
from estimator.power.node_power import NodePower
from estimator.queries.energies import NO_GAIN
from estimator.throughput.tps import TpsModel

FloatArray = npt.NDArray[np.float64]

_CHUNK = 1 << 15
"""Tasks simulated at once: their arrays stay in the cache, and bound the memory whatever the number drawn."""
_MEAN_REQUESTS = 2_000_000
_LEAST_TASKS = 1_000
"""How many requests, but at least how many tasks, are simulated for a mean that has no closed form."""
_MEAN_SEED = 20250924


@dataclass(frozen=True)
class TaskShape:
    """Steps of a task, samples of each step, and how the context grows; lengths in tokens.

    The context after a step grows by ``kept_output_share`` of the output of one of its samples, chosen without
    regard to its length, rounded, and by ``tool_result_tok``. ``input_limit_tok`` is the longest input: what is
    older than that is dropped.
    """

    steps: int
    samples_per_step: int
    input_tok: int
    median_output_tok: float
    tool_result_tok: int
    kept_output_share: float
    input_limit_tok: int | None = None

    def __post_init__(self) -> None:
        """Reject what is no task, naming the key."""
        for key in ("steps", "samples_per_step", "input_tok"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} must be at least 1, not {getattr(self, key)}")
        if not 0 < self.median_output_tok < math.inf:
            raise ValueError(f"median_output_tok must be positive and finite, not {self.median_output_tok}")
        if self.tool_result_tok < 0:
            raise ValueError(f"tool_result_tok must not be negative, not {self.tool_result_tok}")
        if not 0 <= self.kept_output_share <= 1:
            raise ValueError(f"kept_output_share must be between 0 and 1, not {self.kept_output_share}")
        if self.input_limit_tok is not None and self.input_limit_tok < self.input_tok:
            raise ValueError(
                f"input_limit_tok must be at least input_tok, {self.input_tok}, not {self.input_limit_tok}"
            )

    @cached_property
    def output_lengths(self) -> LengthDistribution:
        """Output lengths of every sample: exponential, rounded, at least 1, at the first step's input."""
        return exponential_lengths(self.median_output_tok, self.input_tok)

    @property
    def requests(self) -> int:
        """Requests of one task."""
        return self.steps * self.samples_per_step

    @property
    def mean_output_tok(self) -> float:
        """Mean output of a whole task in tokens, over all steps and samples."""
        return self.requests * self.output_lengths.mean_output_tok

    @property
    def context_is_fixed(self) -> bool:
        """Whether every task has the same inputs, because no output stays in the context."""
        return self.steps == 1 or self.kept_output_share == 0

    def simulate(self, rng: np.random.Generator, n: int) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Draw ``n`` tasks side by side; yields input and output lengths of each request, both of shape ``(n,)``."""
        mean_tok = self.median_output_tok / math.log(2)
        limit_tok = math.inf if self.input_limit_tok is None else self.input_limit_tok
        context_tok = np.full(n, float(self.input_tok))
        for _ in range(self.steps):
            for _ in range(self.samples_per_step):
                output_tok = np.maximum(1.0, np.rint(rng.exponential(mean_tok, n)))
                yield context_tok, output_tok
            kept_tok = np.rint(self.kept_output_share * output_tok)
            context_tok = np.minimum(context_tok + kept_tok + self.tool_result_tok, limit_tok)

    def fixed_inputs(self) -> IntArray:
        """Return the input of each step where the context is fixed, shape ``(steps,)``."""
        inputs = self.input_tok + self.tool_result_tok * np.arange(self.steps, dtype=np.int64)
        return inputs if self.input_limit_tok is None else np.minimum(inputs, self.input_limit_tok)


@dataclass(frozen=True, eq=False)
class TaskEnergies:
    """Energies of whole tasks of one served model; node power, PUE and gain are drawn once for a task.

    A distribution of energies to draw from (``estimator.queries.energies.Energies``).

    >>> from estimator.presets import get_preset
    >>> from estimator.queries.served import s1_model
    >>> preset = get_preset("corrected")
    >>> served = s1_model("Llama 3.1 405B", preset)
    >>> queries = TaskShape(10, 1, 500, 300, tool_result_tok=0, kept_output_share=0.0)
    >>> ten_queries = TaskEnergies(queries, served.tps, served.node_power(preset), preset.pue())
    >>> round(ten_queries.mean_wh, 2), ten_queries.mean_se_wh
    (4.91, 0.0)
    """

    shape: TaskShape
    tps: TpsModel
    node_power: NodePower
    pue: LogNormal
    gain: LogNormal = NO_GAIN

    @property
    def sigma_log(self) -> float:
        """Standard deviation of the logarithm of the factor that a task's requests share."""
        return math.hypot(self.pue.sigma, self.node_power.sigma_log, self.gain.sigma)

    def draw_log_wh(self, rng: np.random.Generator, n: int) -> FloatArray:
        """Draw ``n`` logarithms of tasks' energies in Wh at the medians of the log-normal factors, shape ``(n,)``."""
        log_wh = np.empty(n)
        for start in range(0, n, _CHUNK):
            chunk = log_wh[start : start + _CHUNK]
            wh = np.zeros(chunk.size)
            for input_tok, output_tok in self.shape.simulate(rng, chunk.size):
                wh += self._request_wh(input_tok, output_tok)
            np.log(wh, out=chunk)
        return log_wh

    @property
    def mean_wh(self) -> float:
        """Mean energy of a task in Wh: exact where the context is fixed, otherwise by Monte Carlo."""
        return self._mean_and_se_wh[0]

    @property
    def mean_se_wh(self) -> float:
        """Monte Carlo standard error of ``mean_wh`` in Wh; 0 where the mean is exact."""
        return self._mean_and_se_wh[1]

    @cached_property
    def extrapolated_share(self) -> float:
        """Share of requests with a length outside the throughput data, from 1,000 simulated tasks."""
        requests = self.shape.simulate(np.random.default_rng(_MEAN_SEED), _LEAST_TASKS)
        return sum(float(self.tps.is_extrapolated(*each).mean()) for each in requests) / self.shape.requests

    @cached_property
    def _mean_and_se_wh(self) -> tuple[float, float]:
        factor_mean = math.exp(self.sigma_log**2 / 2)
        if self.shape.context_is_fixed:
            outputs = self.shape.output_lengths
            inputs, steps = np.unique(self.shape.fixed_inputs(), return_counts=True)
            step_wh = [
                outputs.weight @ self._request_wh(np.full(outputs.weight.shape, float(each)), outputs.output_tok)
                for each in inputs
            ]
            return factor_mean * self.shape.samples_per_step * float(steps @ step_wh), 0.0
        n = max(_LEAST_TASKS, _MEAN_REQUESTS // self.shape.requests)
        wh = factor_mean * np.exp(self.draw_log_wh(np.random.default_rng(_MEAN_SEED), n))
        return float(wh.mean()), float(wh.std(ddof=1) / math.sqrt(n))

    def _request_wh(self, input_tok: FloatArray, output_tok: npt.ArrayLike) -> FloatArray:
        tps_tok_per_s = self.tps.predict_tok_per_s(input_tok, output_tok)
        at_medians_wh = energy_per_query_wh(
            pue=self.pue.median,
            node_power_kw=self.node_power.median_kw(tps_tok_per_s),
            output_tok=output_tok,
            tps_tok_per_s=tps_tok_per_s,
        )
        return at_medians_wh / self.gain.median

"""Sample energies in blocks, on all cores, in fixed memory.

Every block has its own generator, spawned from the seed by the block's number, and fills a histogram of whole
counts. So the answer for a seed depends neither on the number of workers nor on the order in which they finish.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from estimator.queries.energies import Energies
from estimator.queries.histogram import N_BINS, FloatArray, LogHistogram, bin_counts

BLOCK = 1 << 21
"""Samples drawn by one generator; also what bounds the memory of a worker, to some 100 MB."""


def sample(energies: Energies, n: int, *, seed: int, stream: int = 0, workers: int = 1) -> LogHistogram:
    """Draw ``n`` energies; different ``stream`` numbers give independent samples for one seed.

    numpy releases the interpreter's lock while it draws, so ``workers`` threads run on as many cores. Raises
    ValueError where ``n`` or ``workers`` is below 1.
    """
    if n < 1 or workers < 1:
        raise ValueError(f"samples and workers must be at least 1, not {n} and {workers}")
    sizes = [BLOCK] * (n // BLOCK) + ([n % BLOCK] if n % BLOCK else [])

    def every(first: int) -> FloatArray:
        counts = np.zeros(N_BINS)
        for block in range(first, len(sizes), workers):
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, block)))
            counts += _block(energies, sizes[block], rng)
        return counts

    if workers == 1 or len(sizes) == 1:
        workers = 1
        return LogHistogram(every(0), n)
    with ThreadPoolExecutor(workers) as threads:
        return LogHistogram(np.sum(list(threads.map(every, range(workers))), axis=0), n)


def _block(energies: Energies, n: int, rng: np.random.Generator) -> FloatArray:
    log_wh = rng.standard_normal(n)
    log_wh *= energies.sigma_log
    log_wh += energies.draw_log_wh(rng, n)
    return bin_counts(log_wh)

import json
import math
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.workloads.traces.files import AZURE_2023, BURSTGPT, conversation, written
from workloads.sample import ALL, UNIFORM, read_stretch, sample_lengths
from workloads.spec import load_workload
from workloads.summary import summarise
from workloads.traces import Chunk, WorkloadFileError, documents, find_trace, tables
from workloads.traces.formats import RECORDED


class InMemory:
    """A trace of requests 1 to n, the output a hundred times the input, in chunks of one size."""

    path = "memory"

    def __init__(self, n, chunk):
        self.n, self.chunk = n, chunk

    def chunks(self, *, times=False):
        for start in range(1, self.n + 1, self.chunk):
            input_tok = np.arange(start, min(self.n, start + self.chunk - 1) + 1)
            yield Chunk(None, input_tok, 100 * input_tok, {"no_output_tok": 2})


@pytest.mark.parametrize("n", [1, 9, 10])
def test_a_trace_that_fits_is_kept_whole_and_in_order(n):
    sample = sample_lengths(InMemory(n, 4), most=10)
    assert sample.input_tok.tolist() == list(range(1, n + 1))
    assert sample.definition()["trace_sample"] == {"requests": n, "of": n, "rule": ALL, "seed": None}


def test_a_longer_one_is_sampled_without_repetition_in_its_order_and_says_so():
    sample = sample_lengths(InMemory(1_000, 7), most=50, seed=4)
    assert sample.input_tok.size == 50
    assert (np.diff(sample.input_tok) > 0).all()
    assert (sample.output_tok == 100 * sample.input_tok).all()
    assert sample.definition() == {
        "trace_requests": 1_000,
        "trace_unusable": {"no_output_tok": 2 * math.ceil(1_000 / 7)},
        "trace_sample": {"requests": 50, "of": 1_000, "rule": UNIFORM, "seed": 4},
    }


def test_the_sample_depends_on_the_seed_alone_and_not_on_how_the_file_is_read():
    first, *others = [sample_lengths(InMemory(500, chunk), most=20, seed=1).input_tok for chunk in (1, 13, 500)]
    assert all((first == other).all() for other in others)
    assert (first != sample_lengths(InMemory(500, 13), most=20, seed=2).input_tok).any()


def test_every_request_and_every_pair_is_equally_likely():
    runs, n, most = 1_500, 12, 4
    together = np.zeros((n, n))
    for seed in range(runs):
        kept = sample_lengths(InMemory(n, 5), most=most, seed=seed).input_tok - 1
        together[np.ix_(kept, kept)] += 1
    for share, counts in ((most / n, np.diag(together)), (most * 3 / (n * 11), together[np.triu_indices(n, 1)])):
        assert np.abs(counts / runs - share).max() < 4.5 * math.sqrt(share * (1 - share) / runs)


def test_a_stretch_is_the_beginning_of_the_file_in_order_of_time(tmp_path):
    rows = "Timestamp,Request tokens,Response tokens\n9,1,10\n4,2,20\n5,3,0\n6,4,40\n1,5,50\n"
    trace = find_trace(f"burstgpt:{written(tmp_path, rows)}")
    stretch = read_stretch(trace, most=3)
    assert stretch.time_s.tolist() == [0, 2, 5]
    assert (stretch.input_tok.tolist(), stretch.output_tok.tolist()) == ([2, 4, 1], [20, 40, 10])
    assert stretch.rate_per_s == pytest.approx(2 / 5)
    scaled = stretch.at_rate(8)
    assert scaled.rate_per_s == pytest.approx(8)
    assert scaled.time_s.tolist() == pytest.approx([0, 0.1, 0.25])


def test_no_more_of_the_file_is_read_than_the_stretch_needs(tmp_path):
    close_by = AZURE_2023 + "\nnever,1,1\n"
    trace = find_trace(f"azure:{written(tmp_path, close_by)}")
    with pytest.raises(WorkloadFileError, match="request 6 has TIMESTAMP"):
        read_stretch(trace, most=3)
    rows = AZURE_2023.partition("\n")[2] + "\n"
    far_away = AZURE_2023 + "\n" + rows * 8_000 + "never,1,1\n"
    assert read_stretch(find_trace(f"azure:{written(tmp_path, far_away)}"), most=3).time_s.size == 3


def test_requests_of_one_time_have_no_rate_to_scale(tmp_path):
    trace = find_trace(f"burstgpt:{written(tmp_path, BURSTGPT.replace('8.5,', '5,').replace('65,Chat', '5,Chat'))}")
    stretch = read_stretch(trace)
    assert stretch.rate_per_s is None
    with pytest.raises(ValueError, match="same time"):
        stretch.at_rate(1)


def test_a_stretch_needs_times_and_usable_requests(tmp_path):
    with pytest.raises(WorkloadFileError, match="does not say when"):
        read_stretch(find_trace("vllm:prompts.jsonl"))
    rows = "Timestamp,Request tokens,Response tokens\n1,5,0\n"
    with pytest.raises(WorkloadFileError, match="no usable requests"):
        read_stretch(find_trace(f"burstgpt:{written(tmp_path, rows)}"))


def burstgpt_of(n):
    rows = (f"{at / 8},ChatGPT,{at % 300},{at % 70},{at},API log" for at in range(n))
    return BURSTGPT.partition("\n")[0] + "\n" + "\n".join(rows)


def mooncake_of(n):
    return "\n".join(
        json.dumps({"timestamp": at, "input_length": at % 300, "output_length": at % 70, "hash_ids": [at] * 9})
        for at in range(n)
    )


def sharegpt_of(n):
    return json.dumps([conversation("word " * (at % 70), "word " * (at % 90)) for at in range(n)])


@pytest.mark.parametrize(
    ("kind", "make", "rows"),
    [("burstgpt", burstgpt_of, 2_500), ("mooncake", mooncake_of, 1_000), ("sharegpt", sharegpt_of, 1_000)],
)
def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch, kind, make, rows):
    """With pieces much smaller than the smaller file; the larger has four times as many."""
    monkeypatch.setattr(tables, "BLOCK_B", 1 << 11)
    monkeypatch.setattr(documents, "READ_CHARACTERS", 1 << 14)
    monkeypatch.setattr(documents, "BATCH", 50)
    peaks, arrow_b = [], []
    for number in (rows, 4 * rows):
        trace = find_trace(f"{kind}:{written(tmp_path, make(number))}")
        tracemalloc.start()
        assert sample_lengths(trace, most=500).input_tok.size == 500
        summarise(trace)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        arrow_b.append(pa.default_memory_pool().max_memory())
        size_b = trace.path.stat().st_size
    assert peaks[1] < min(1.2 * peaks[0], size_b)
    assert arrow_b[1] < arrow_b[0] + size_b / 4


def test_a_workload_says_what_of_its_file_it_is(tmp_path):
    path = written(tmp_path, BURSTGPT)
    workload = load_workload(f"burstgpt:{path}")
    definition = workload.definition()
    assert (workload.name, definition["source"]) == ("burstgpt:trace", str(path))
    assert definition["trace_unusable"] == {"no_output_tok": 1, "no_input_tok": 1}
    assert definition["trace_sample"] == {"requests": 3, "of": 3, "rule": ALL, "seed": None}
    assert definition["token_counts"] == RECORDED

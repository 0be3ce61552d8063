"""The engine behind the scripted server: sequences that advance at a scripted rate, and counters that never lie."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import asdict, dataclass, field

BLOCK_TOK = 16
TTFT_BOUNDS_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
ITL_BOUNDS_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 1.0)
"""Buckets of the latency histograms: the lower ones of vLLM's."""
CHARACTER = "字"
"""What a token reads as: three bytes of UTF-8, so that a packet can end inside one."""


@dataclass(frozen=True)
class Script:
    """How the server behaves.

    ``fault`` is one of: http_500, drop (hang up without an answer), error_event (in the middle of a stream), cut
    (hang up before the end), no_usage, no_done, not_json, short (half the tokens). A negative ``exit_code``
    means that the process serves; otherwise it says ``last_words`` and exits. ``most_tok_per_s`` bounds the rate of all
    sequences together, if positive; ``kv_slots`` sequences fill the KV cache, or ``max_num_seqs`` if it is 0.
    ``prefix_caching`` keeps every block of every sequence for ever; with ``token_ids`` the ids of generated tokens are
    told to who asks.
    """

    model: str = "scripted"
    context_tok: int = 16_384
    tok_per_s: float = 500.0
    most_tok_per_s: float = 0.0
    kv_slots: int = 0
    tick_s: float = 0.01
    max_num_seqs: int = 512
    tok_per_chunk: int = 1
    packet_bytes: int = 0
    answer_delay_s: float = 0.0
    fault: str = ""
    healthy: bool = True
    metrics: bool = True
    prefix_caching: bool = False
    token_ids: bool = True
    listen_delay_s: float = 0.0
    exit_code: int = -1
    last_words: str = ""
    child: bool = False

    def to_json(self) -> str:
        """Return the script as a process takes it."""
        return json.dumps(asdict(self))


@dataclass(eq=False)
class Sequence:
    """One request being generated."""

    prompt_tok: int
    target_tok: int
    arrived_s: float
    number: int = 0
    prompt: tuple[int, ...] = ()
    made_tok: int = 0
    credit_tok: float = 0.0
    last_s: float = 0.0
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def done(self) -> bool:
        """Return whether every token is made."""
        return self.made_tok >= self.target_tok

    @property
    def made_ids(self) -> list[int]:
        """Ids of the tokens made so far: no two sequences make the same."""
        return [10_000 + (31 * self.number + place) % 50_000 for place in range(self.made_tok)]


class Engine:
    """Advances up to ``max_num_seqs`` sequences together, tick by tick; the others wait their turn."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.generated_tok = self.prompt_tok = 0
        self.numbered = self.prefix_queries_tok = self.prefix_hits_tok = 0
        self.blocks: set[int] = set()
        self.ttft_s: list[float] = []
        self.itl_sum_s, self.itl_count = 0.0, 0
        self.itl_buckets = dict.fromkeys(ITL_BOUNDS_S, 0)
        self.ended = {"stop": 0, "length": 0, "abort": 0, "error": 0, "repetition": 0}
        self.work = asyncio.Event()

    def add(self, prompt: list[int], target_tok: int) -> Sequence:
        """Queue a request."""
        self.numbered += 1
        sequence = Sequence(
            len(prompt), target_tok, asyncio.get_running_loop().time(), number=self.numbered, prompt=tuple(prompt)
        )
        if self.script.prefix_caching:
            self._look_up(prompt)
        self.waiting.append(sequence)
        self.work.set()
        return sequence

    def abort(self, sequence: Sequence) -> None:
        """Forget a request; what it has generated stays counted. Harmless if it is done."""
        self.ended["abort"] += not sequence.done
        if sequence in self.waiting:
            self.waiting.remove(sequence)
        if sequence in self.running:
            self.running.remove(sequence)
            self._keep(sequence)

    def _keep(self, sequence: Sequence) -> None:
        if self.script.prefix_caching:
            self.blocks.update(block_hashes([*sequence.prompt, *sequence.made_ids]))

    def _look_up(self, prompt: list[int]) -> None:
        """Count the whole blocks at a prompt's start that are known; its last token is always computed."""
        self.prefix_queries_tok += len(prompt)
        for block in block_hashes(prompt[:-1]):
            if block not in self.blocks:
                break
            self.prefix_hits_tok += BLOCK_TOK

    async def run(self) -> None:
        """Generate until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            if not self.running and not self.waiting:
                self.work.clear()
                await self.work.wait()
            while self.waiting and len(self.running) < self.script.max_num_seqs:
                self.running.append(self.waiting.popleft())
            began_s = loop.time()
            await asyncio.sleep(self.script.tick_s)
            rate_tok_per_s = self._rate_tok_per_s()
            for sequence in tuple(self.running):
                self._advance(sequence, loop.time(), (loop.time() - began_s) * rate_tok_per_s)

    def _rate_tok_per_s(self) -> float:
        bound = self.script.most_tok_per_s / max(1, len(self.running)) if self.script.most_tok_per_s > 0 else 1e9
        return min(self.script.tok_per_s, bound)

    def _advance(self, sequence: Sequence, now_s: float, credit_tok: float) -> None:
        sequence.credit_tok += credit_tok
        new_tok = min(int(sequence.credit_tok), sequence.target_tok - sequence.made_tok)
        if new_tok == 0:
            return
        if sequence.made_tok == 0:
            self.prompt_tok += sequence.prompt_tok
            self.ttft_s.append(now_s - sequence.arrived_s)
        else:
            self.itl_sum_s += now_s - sequence.last_s
            self.itl_count += new_tok
            for bound_s in ITL_BOUNDS_S:
                self.itl_buckets[bound_s] += new_tok if (now_s - sequence.last_s) / new_tok <= bound_s else 0
        sequence.last_s = now_s
        sequence.credit_tok -= new_tok
        sequence.made_tok += new_tok
        self.generated_tok += new_tok
        if sequence.done:
            self.ended["length"] += 1
            self.running.remove(sequence)
            self._keep(sequence)
        sequence.moved.set()


def block_hashes(ids: list[int]) -> list[int]:
    """Return a number for each whole block of tokens that stands for it and everything before it."""
    hashes, before = [], 0
    for start in range(0, len(ids) - BLOCK_TOK + 1, BLOCK_TOK):
        before = hash((before, *ids[start : start + BLOCK_TOK]))
        hashes.append(before)
    return hashes


def metrics_text(engine: Engine) -> str:
    """Return /metrics as vLLM words it."""
    values = {
        "num_requests_running": ("gauge", len(engine.running)),
        "num_requests_waiting": ("gauge", len(engine.waiting)),
        "kv_cache_usage_perc": ("gauge", len(engine.running) / (engine.script.kv_slots or engine.script.max_num_seqs)),
        "generation_tokens_total": ("counter", engine.generated_tok),
        "prompt_tokens_total": ("counter", engine.prompt_tok),
        "num_preemptions_total": ("counter", 0),
        "time_to_first_token_seconds_sum": ("histogram", sum(engine.ttft_s)),
        "time_to_first_token_seconds_count": ("histogram", len(engine.ttft_s)),
        "inter_token_latency_seconds_sum": ("histogram", engine.itl_sum_s),
        "inter_token_latency_seconds_count": ("histogram", engine.itl_count),
        "prefix_cache_queries_total": ("counter", engine.prefix_queries_tok),
        "prefix_cache_hits_total": ("counter", engine.prefix_hits_tok),
    }
    labels = f'engine="0",model_name="{engine.script.model}"'
    label = f"{{{labels}}}"
    caching = f'enable_prefix_caching="{engine.script.prefix_caching}"'
    lines = ["# TYPE vllm:cache_config_info gauge", f'vllm:cache_config_info{{block_size="{BLOCK_TOK}",{caching}}} 1.0']
    for name, (kind, value) in values.items():
        family = name.removesuffix("_sum").removesuffix("_total")
        if not name.endswith("_count"):
            lines.append(f"# TYPE vllm:{family} {kind}")
        if name.endswith("_sum"):
            lines += _buckets(family, labels, engine)
        lines.append(f"vllm:{name}{label} {float(value)}")
    lines.append("# TYPE vllm:request_success counter")
    lines += [
        f'vllm:request_success_total{{{labels},finished_reason="{why}"}} {float(count)}'
        for why, count in engine.ended.items()
    ]
    return "\n".join(lines) + "\n"


def _buckets(family: str, labels: str, engine: Engine) -> list[str]:
    counts = {bound_s: sum(ttft_s <= bound_s for ttft_s in engine.ttft_s) for bound_s in TTFT_BOUNDS_S}
    every = len(engine.ttft_s)
    if family == "inter_token_latency_seconds":
        counts, every = engine.itl_buckets, engine.itl_count
    upper = {**{str(bound_s): count for bound_s, count in counts.items()}, "+Inf": every}
    return [f'vllm:{family}_bucket{{{labels},le="{bound}"}} {float(count)}' for bound, count in upper.items()]

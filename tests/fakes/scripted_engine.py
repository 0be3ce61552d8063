"""The engine behind the scripted server: sequences that advance at a scripted rate, and counters that never lie."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import asdict, dataclass, field

CHARACTER = "字"
"""What a token reads as: three bytes of UTF-8, so that a packet can end inside one."""


@dataclass(frozen=True)
class Script:
    """How the server behaves.

    ``fault`` is one of: http_500, drop (hang up without an answer), error_event (in the middle of a stream), cut
    (hang up before the end), no_usage, no_done, not_json, short (half the tokens). A negative ``exit_code``
    means that the process serves; otherwise it says ``last_words`` and exits. ``most_tok_per_s`` bounds the rate of all
    sequences together, if positive; ``kv_slots`` sequences fill the KV cache, or ``max_num_seqs`` if it is 0.
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
    made_tok: int = 0
    credit_tok: float = 0.0
    last_s: float = 0.0
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def done(self) -> bool:
        """Return whether every token is made."""
        return self.made_tok >= self.target_tok


class Engine:
    """Advances up to ``max_num_seqs`` sequences together, tick by tick; the others wait their turn."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.generated_tok = self.prompt_tok = 0
        self.ttft_s: list[float] = []
        self.itl_sum_s, self.itl_count = 0.0, 0
        self.work = asyncio.Event()

    def add(self, prompt_tok: int, target_tok: int) -> Sequence:
        """Queue a request."""
        sequence = Sequence(prompt_tok, target_tok, arrived_s=asyncio.get_running_loop().time())
        self.waiting.append(sequence)
        self.work.set()
        return sequence

    def abort(self, sequence: Sequence) -> None:
        """Forget a request; what it has generated stays counted. Harmless if it is done."""
        if sequence in self.waiting:
            self.waiting.remove(sequence)
        if sequence in self.running:
            self.running.remove(sequence)

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
        sequence.last_s = now_s
        sequence.credit_tok -= new_tok
        sequence.made_tok += new_tok
        self.generated_tok += new_tok
        if sequence.done:
            self.running.remove(sequence)
        sequence.moved.set()


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
    }
    label = f'{{engine="0",model_name="{engine.script.model}"}}'
    lines = []
    for name, (kind, value) in values.items():
        family = name.removesuffix("_sum").removesuffix("_total")
        if not name.endswith("_count"):
            lines.append(f"# TYPE vllm:{family} {kind}")
        lines.append(f"vllm:{name}{label} {float(value)}")
    return "\n".join(lines) + "\n"

"""Run folders made by hand, with figures that arithmetic gives: nothing here comes from the code under test.

Two servers, scraped 4 ms apart, generate tokens at a constant rate from 1 s to 32 s + 1 s after each cell's start.
Two devices draw a constant power with exact counters. A test changes any list before it writes the folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from results.store import RunWriter

SCRAPE_LAG_S = 0.004
GENERATING_S = 32.0
LOADED_W, IDLE_W = 200.0, 75.0
DEVICES = ("gpu-a", "gpu-b")
OFFSET_KW, SLOPE, U_OFFSET_KW, U_SLOPE, CORRELATION = 1.6, 1.22, 0.17, 0.05, -0.8
PUE = 1.25

PROFILE = {
    "name": "eight-gpus", "simulated": False, "gpu_name_patterns": ["^Test GPU$"], "gpu_count": 8, "p_max_kw": 11.3,
    "p_idle_kw": 2.7, "offset_kw": OFFSET_KW, "slope": SLOPE, "u_offset_kw": U_OFFSET_KW, "u_slope": U_SLOPE,
    "correlation": CORRELATION, "source": "made up",
}  # fmt: skip
REFERENCE = {"pue": 1.2, "node_power_kw": 2.0, "output_tok": 110.0, "tps_tok_per_s": 1000.0}


def server(uuids):
    """Describe a server that uses the given devices."""
    return {"url": "http://127.0.0.1:1", "argv": [], "env": {}, "device_uuids": list(uuids)}


@dataclass(frozen=True)
class Cell:
    """One cell: ``rate`` is each server's tokens per second, every request has ``output_tok`` tokens."""

    name: str = "1x"
    start_s: float = 100.0
    rate: float = 400.0
    output_tok: int = 100
    median_tok: float = 80.0
    multiplier: float = 1.0
    role: str = "compared"
    workload: str = "traditional"
    input_tok: int = 50

    @property
    def generated_tok(self):
        """Tokens of both servers over the whole cell."""
        return round(2 * self.rate * GENERATING_S)

    def definition(self):
        return {
            "name": self.name, "role": self.role, "workload": self.workload, "multiplier": self.multiplier,
            "concurrency": 16, "mean_input_tok": self.input_tok, "mean_output_tok": self.output_tok,
            "median_output_tok": self.median_tok, "capped_share": 0.0, "mean_output_uncapped_tok": self.output_tok,
            "warmup_s": 4.0, "budget_s": 30.0, "precision_rel": 0.02, "min_window_s": 26.0,
            "streamed_share": 0.05, "drain": True,
            "plateau_tps_tok_per_s": 2 * self.rate, "binding": "compute",
        }  # fmt: skip

    def events(self):
        """Quiet at the start, filled 2 s later, warm until 6 s, load until 32 s, quiet again at 40 s."""
        start = {"cell": self.name, "definition": self.definition(), "quiet_mono_s": self.start_s}
        return [
            {"event": "cell_start", "t_mono_s": self.start_s + 0.2, **start},
            {"event": "filled", "t_mono_s": self.start_s + 2},
            {"event": "load_stop", "t_mono_s": self.start_s + 32},
            {"event": "cell_end", "t_mono_s": self.start_s + 40},
        ]

    def server_rows(self, base_tok):
        return [
            self._server_row(self.start_s + 0.5 * step + SCRAPE_LAG_S * server, server, base_tok)
            for step in range(81)
            for server in (0, 1)
        ]

    def _server_row(self, t_s, server, base_tok):
        loaded_s = min(max(t_s - self.start_s - 1, 0.0), GENERATING_S)
        later_s = max(0.0, loaded_s - 3.0)  # from 4 s after the start first tokens come four times sooner
        return {
            "t_mono_s": t_s, "t_wall_s": 1.7e9 + t_s, "server": server, "running": 8.0, "waiting": 0.0,
            "kv_usage_ratio": 0.4 + 0.2 * server, "generation_tok": base_tok + self.rate * loaded_s,
            "prompt_tok": 0.0, "preemptions": loaded_s, "ttft_sum_s": 10 * (loaded_s - later_s) + 2.5 * later_s,
            "ttft_count": 10 * loaded_s, "itl_sum_s": 0.02 * self.rate * loaded_s, "itl_count": self.rate * loaded_s,
            "error": None,
        }  # fmt: skip

    def request_rows(self):
        """As many equal requests as give the tokens; 16 first fills, five streamed in the window, one before it.

        Tokens that make no whole request are those of one that was aborted.
        """
        count, remainder = divmod(self.generated_tok, self.output_tok)
        rows = [self._request_row(number) for number in range(count)]
        if remainder:
            rows.append(self._request_row(count) | {"outcome": "aborted", "prompt_tok": None, "output_tok": None})
        return rows

    def _request_row(self, number):
        probe = number - 20 if 20 <= number < 26 else None
        send_s = self.start_s + (1 if number < 16 else 3 if probe == 5 else 8)
        first_s = send_s + (50 if probe == 5 else 0.1 * ((probe or 0) + 1))
        gap_s = 0.01 * ((probe or 0) + 1)
        return {
            "cell": self.name, "server": number % 2, "slot": number % 16, "first_fill": number < 16,
            "streamed": probe is not None, "input_tok_sent": self.input_tok, "output_tok_asked": self.output_tok,
            "send_mono_s": send_s, "first_mono_s": None if probe is None else first_s,
            "end_mono_s": first_s + gap_s * (self.output_tok - 1), "prompt_tok": self.input_tok,
            "output_tok": self.output_tok, "outcome": "completed", "error": None,
        }  # fmt: skip


PLAIN = Cell()
MULTIPLIED = Cell("8x", start_s=200.0, rate=200.0, output_tok=800, median_tok=640.0, multiplier=8.0)


def power_rows(until_s, loaded_from_s=95.0):
    rows = []
    for step in range(round(10 * (until_s - 65)) + 1):
        t_s = 65 + 0.1 * step
        power_w = LOADED_W if t_s >= loaded_from_s else IDLE_W
        joules = IDLE_W * min(t_s, loaded_from_s) + LOADED_W * max(0.0, t_s - loaded_from_s)
        for number, uuid in enumerate(DEVICES):
            rows.append(
                {
                    "t_mono_s": t_s, "t_wall_s": 1.7e9 + t_s, "late_s": 0.0, "source": "nvml", "boundary": "gpu",
                    "uuid": uuid, "power_w": power_w, "energy_j": 1e6 * (number + 1) + joules,
                    "utilization_ratio": 0.9 - 0.2 * number, "memory_used_b": None, "temperature_c": None,
                    "sm_clock_mhz": None, "throttle_reasons": None, "error": None,
                }
            )  # fmt: skip
    return rows


def manifest():
    return {
        "schema": "inference-energy/manifest/1", "id": "made-up", "status": "complete", "started_wall_s": 1.7e9,
        "config": {}, "workload": {"name": "traditional"}, "versions": {}, "host": {},
        "devices": [{"uuid": uuid, "name": "Test GPU"} for uuid in DEVICES],
        "power": {"name": "nvml", "boundary": "gpu", "gain_rel_u": 0.03, "power_lag_s": 0.5, "notes": []},
        "boundary": "node_modelled", "node_profile": PROFILE, "node_share": 0.25,
        "pue": {"mean": PUE, "source": "measured, given with --pue"}, "servers": [server(DEVICES)],
        "model": "test/model",
        "server_version": "0.1", "context_tok": 4096, "labels": ["made by hand"],
    }  # fmt: skip


def prediction(*names):
    mean_wh = 1.2 * 2.0 * 110 / 1000 / 3.6
    cells = {
        name: {
            "mean_wh": mean_wh * 2**number, "p5_wh": mean_wh / 2, "p95_wh": mean_wh * 2,
            "per_query": {"p5_wh": mean_wh / 20, "p95_wh": mean_wh * 4},
            "reference": REFERENCE | {"output_tok": 110.0 * 2**number},
        }
        for number, name in enumerate(names)
    }  # fmt: skip
    return {
        "schema": "inference-energy/prediction/1", "created_wall_s": 1.7e9, "tps_source": "a made-up model",
        "label": "a label of the prediction", "cells": cells,
    }  # fmt: skip


@dataclass
class SyntheticRun:
    """The rows, events and documents of a run; change them, then ``write``."""

    cells: tuple[Cell, ...] = (PLAIN, MULTIPLIED)
    manifest: dict = field(default_factory=manifest)

    def __post_init__(self):
        self.prediction = prediction(*(cell.name for cell in self.cells if cell.role == "compared"))
        self.power = power_rows(until_s=max(cell.start_s for cell in self.cells) + 45)
        self.server, self.requests = [], []
        self.events = [{"event": "idle_start", "t_mono_s": 70.0}, {"event": "idle_end", "t_mono_s": 90.0}]
        base_tok = 5e6
        for cell in self.cells:
            self.server += cell.server_rows(base_tok)
            self.requests += cell.request_rows()
            self.events += cell.events()
            base_tok += cell.rate * GENERATING_S

    def write(self, folder):
        writer = RunWriter(folder)
        writer.write_text("manifest.json", json.dumps(self.manifest))
        if self.prediction is not None:
            writer.write_text("prediction.json", json.dumps(self.prediction))
        for name in ("power", "server", "requests"):
            writer.add(name, getattr(self, name))
        writer.flush()
        for event in self.events:
            writer.event(event["event"], **{key: value for key, value in event.items() if key != "event"})
        return folder

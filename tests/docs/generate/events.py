"""What ``events.jsonl`` of a run holds: the fields and the meaning of each event."""

from __future__ import annotations

EVENTS: dict[str, tuple[tuple[str, ...], str]] = {
    "phase": (("phase", "cell"), "The run entered a phase; `cell` is empty where it is of none."),
    "devices_before_launch": (("cell", "devices", "own_pids", "host_pids"), "State of the GPUs before any server."),
    "devices_before": (("cell", "devices", "own_pids", "host_pids"), "The same before a load or an idle phase."),
    "devices_after": (("cell", "devices", "own_pids", "host_pids"), "The same after it."),
    "bare_idle_unknown": (("why",), "Why bare idle was not measured."),
    "bare_idle_start": ((), "Bare idle began: no server was launched yet."),
    "bare_idle_end": ((), "Bare idle ended."),
    "idle_start": ((), "Loaded idle began: the model is resident, nothing runs."),
    "idle_end": ((), "Loaded idle ended."),
    "no_token_counter": (("servers",), "Servers without a token counter: their tokens are the usage of requests."),
    "text_tokenized": (("text", "sha256", "tokens"), "The text that prompts are slices of."),
    "rung": (
        ("cell", "filled", "concurrency", "tps_tok_per_s", "gain", "gain_half_width_95", "gain_known", "..."),
        "One concurrency of a search, as it was measured, and its throughput over that of the one before.",
    ),
    "search_end": (("cell", "concurrency", "binds", "binding", "doubling_gain_rel", "plateau_shown"), "Its outcome."),
    "prediction_stored": (("tps_source", "sha256"), "`prediction.json` was written; no compared cell has started yet."),
    "cell_budget": (("cell", "budget_s", "needed_s", "request_s"), "What it may take, and what its window needs."),
    "cell_start": (("cell", "definition", "quiet_mono_s"), "A cell's load starts; the servers have been quiet since."),
    "filled": (("cell", "complete"), "Every slot has its first token, or that took too long: warm-up begins."),
    "hold_end": (("cell", "why"), "The window rule ended the cell: `precision_reached` or `budget_spent`."),
    "load_stop": (("cell",), "No request is sent from here on."),
    "server_lost": (("cell", "why"), "A server died under load."),
    "cell_end": (("cell",), "The servers are quiet again."),
    "cell_skipped": (("cell", "why"), "A cell of a sweep's grid that the server's context does not hold."),
    "resumed": (("finished",), "A sweep went on; these cells are kept."),
}  # fmt: skip
"""Every event also has ``t_mono_s``, ``t_wall_s`` and ``event``, its name."""

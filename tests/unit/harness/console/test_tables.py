"""Tables as wide as a plain output: what is too long for a column is folded, never cut."""

import pytest

from harness.console.repeats import print_repeats
from harness.console.sweep import print_sweep
from harness.verify.judged import DOUBTFUL, FATAL

RUN = {"status": "complete", "labels": [], "model": "m", "server_version": "0.32.0", "path": "results/runs/x"}


def sweep(reasons, name="in-flight-1024", served_tok=1024.0):
    line = {
        "cell": name, "concurrency": 1024, "tps_tok_per_s": 12_345.0, "watts": 11_234.5, "joules_per_tok": 0.3451,
        "joules_per_tok_ci95": (0.34, 0.35), "wh_per_query": 0.03451, "queue_share": 0.99, "verdict": "suspect",
        "mean_output_tok": 1024.0, "served_output_tok": served_tok,
        "reasons": reasons, "power_source": "simulated", "boundary": "node_modelled",
    }  # fmt: skip
    grid = {"cells": [line], "skipped": [], "energy_exponents": []}
    return {"run": RUN, "ladder": None, "grid": grid, "server_starts": 1, "cut_short": []}


def test_a_sweep_shows_every_reason_code_whole(capsys):
    codes = sorted(DOUBTFUL | FATAL)
    print_sweep(sweep(codes))
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert [code for code in codes if code not in printed] == []
    assert "11,234.5" in printed
    assert max(map(len, printed.splitlines())) <= 120


@pytest.mark.parametrize(("served_tok", "said"), [(1024.0, False), (730.0, True), (None, False)])
def test_a_sweep_says_of_how_many_tokens_a_query_is_where_the_server_chose_them(capsys, served_tok, said):
    print_sweep(sweep(["drift"], served_tok=served_tok))
    printed = capsys.readouterr().out
    assert "0.03451" in printed
    assert ("730" in printed and "as served" in printed) == said


@pytest.mark.parametrize("name", ["a-cell-" + "with-a-long-name-" * 6, "x" * 150])
def test_a_long_name_is_folded_not_cut(capsys, name):
    spread = {"mean": 12_345.6, "u_run_rel": 0.01, "u_between_rel": None, "u_mean_rel": 0.02}
    cell = {"cell": name, "n": 3, "tps_tok_per_s": spread, "wh_per_query": spread}
    print_repeats({"runs": [], "labels": [], "repeats_asked": 0, "cells": [cell], "energy_ratio": None})
    print_sweep(sweep(["drift"], name))
    printed = capsys.readouterr().out
    assert "…" not in printed
    for table in printed.split("in flight"):
        folded = "".join(line.split("│")[1].strip() for line in table.splitlines() if line.startswith("│"))
        assert name in folded

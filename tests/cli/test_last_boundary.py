"""What no code foresaw still ends in one message."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli


def test_a_bug_is_kept_in_a_file_and_named_in_one_message(monkeypatch, capsys):
    def broken():
        raise ZeroDivisionError("made up")

    monkeypatch.setattr(cli, "app", broken)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 70
    assert "Traceback" not in said
    assert "ZeroDivisionError: made up" in said
    (kept,) = [word.rstrip(";") for word in said.split() if "harness-bug-" in word]
    try:
        assert "in broken" in Path(kept).read_text()
    finally:
        Path(kept).unlink()


def test_the_command_line_starts_without_the_heavy_libraries():
    heavy = {"pandas", "pyarrow", "scipy", "aiohttp", "vllm", "torch"}
    script = f"import sys, harness.cli; print(sorted({heavy!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

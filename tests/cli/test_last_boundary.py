"""What no code foresaw still ends in one message."""

import os
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


def test_a_full_disk_behind_standard_output_is_one_message_and_no_bug():
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "harness.cli", "--version"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 6
    assert ended.stderr.splitlines()[0].startswith("error: cannot write to standard output")
    assert "No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


def test_a_terminal_that_lacks_a_letter_gets_another_instead_of_an_error():
    script = "from harness import cli; cli.app = lambda: print('5 \u00b5s'); cli.main()"
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    ended = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "5 ?s\n", "")

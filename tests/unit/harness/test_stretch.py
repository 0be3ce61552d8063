import os
import signal
import sys
import threading
import time

import psutil
import pytest

from harness.errors import ConfigError
from harness.stretch import run_command, wait_seconds
from tests.fakes.waiting import until

pytestmark = pytest.mark.timeout(90)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def send_once_handled(number, ready=lambda: True):
    """Send this process a signal when something else than before handles it: sooner, it would end the tests."""
    before = signal.getsignal(number)

    def send():
        until(lambda: signal.getsignal(number) is not before and ready(), "a handler of the signal", 60)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    return sender


def is_alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(("code", "exit_code"), [("pass", 0), ("import sys; sys.exit(5)", 5)])
def test_the_exit_code_of_a_command_is_told(code, exit_code):
    stretch = run_command(python(code), seconds=None, stdout_to_stderr=False)
    assert (stretch.exit_code, stretch.interrupted_by) == (exit_code, None)
    assert stretch.end_s > stretch.start_s


def test_a_command_that_died_of_a_signal_has_the_code_a_shell_would_give():
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run_command(python(code), seconds=None, stdout_to_stderr=False).exit_code == 128 + signal.SIGKILL


def test_a_stretch_of_a_long_command_ends_before_it():
    stretch = run_command(python("import time; time.sleep(2)"), seconds=0.2, stdout_to_stderr=False)
    assert 0.2 <= stretch.end_s - stretch.start_s < 1.9
    assert time.monotonic() - stretch.start_s > 2
    assert stretch.exit_code == 0


def test_no_shell_reads_the_command(capfd):
    run_command(
        [sys.executable, "-c", "import sys; print(sys.argv[1])", "$HOME; echo no"], seconds=None, stdout_to_stderr=True
    )
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "$HOME; echo no\n")


def test_a_program_that_does_not_exist_is_an_error_that_names_it():
    with pytest.raises(ConfigError, match="cannot run no-such-program"):
        run_command(["no-such-program"], seconds=None, stdout_to_stderr=False)


def test_a_signal_is_passed_on_to_the_whole_group_and_handlers_are_put_back(tmp_path):
    before, file = signal.getsignal(signal.SIGTERM), tmp_path / "child"
    sender = send_once_handled(signal.SIGTERM, lambda: file.is_file() and file.read_text().endswith("\n"))
    stretch = run_command(["sh", "-c", f"sleep 60 & echo $! > '{file}'; wait"], seconds=None, stdout_to_stderr=False)
    sender.join()
    until(lambda: not is_alive(int(file.read_text())), "the child of the command to die of it too")
    assert stretch.interrupted_by == signal.SIGTERM
    assert stretch.exit_code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_interrupt_ends_a_wait_without_end():
    sender = send_once_handled(signal.SIGINT)
    stretch = wait_seconds(None)
    sender.join()
    assert (stretch.interrupted_by, stretch.exit_code) == (signal.SIGINT, None)


def test_a_wait_lasts_as_long_as_asked():
    stretch = wait_seconds(0.2)
    assert stretch.end_s - stretch.start_s >= 0.2
    assert stretch.interrupted_by is None

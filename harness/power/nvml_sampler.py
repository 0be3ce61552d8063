"""Poll NVML from a process of its own.

One round over eight GPUs makes about a hundred calls into the driver, and each gives up Python's global lock. Beside a
load client that never rests every one of them waits its turn to get it back; a process of its own waits for none.
tests/bench/bench_sampler.py measures both.

The process is ``python -m harness.power.nvml_sampler PERIOD_S UUID ...``. It writes one JSON document a round to its
standard output and ends when its standard input closes, so that it cannot outlive whoever started it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict

from harness.errors import HarnessError, MeasurementError
from harness.pace import Pace
from harness.power.base import PowerRow, PowerSource
from harness.power.nvml import NvmlSource, open_nvml
from harness.power.sampler import PERIOD_S, PowerSampler, Sampler, Sink, read_round

START_LIMIT_S = 60.0


class NvmlSampler(Sampler):
    """Read GPUs every ``period_s`` in a process of its own; rows reach ``sink`` on a thread of this one."""

    def __init__(self, source: NvmlSource, sink: Sink, *, period_s: float = PERIOD_S) -> None:
        """Prepare to sample the GPUs of ``source``; ``start`` (or ``with``) begins."""
        super().__init__(sink, source.name)
        uuids = [device.uuid for device in source.devices]
        self._argv = [sys.executable, "-m", "harness.power.nvml_sampler", repr(period_s), *uuids]
        self._first_round = threading.Event()
        self._ending = False

    def start(self) -> None:
        """Begin sampling; returns once the first round was read. Raises what kept it from being read."""
        self._process = subprocess.Popen(
            self._argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # an interrupt at the terminal is for the harness, which then ends this in order
        )
        super().start()
        self._first_round.wait(START_LIMIT_S)
        if not self._first_round.is_set() or self._error is not None:
            self._process.kill()
            self._halt()
            self.check()

    def _run(self) -> None:
        super()._run()
        self._first_round.set()

    def _sample(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  it was opened with a pipe
        with self._process.stdout as lines:
            for line in lines:
                message = json.loads(line)
                if "what" in message:
                    raise MeasurementError(message["what"], why=message["why"], fix=message["fix"])
                self.missed, self.cpu_s = message["missed"], message["cpu_s"]
                self._take(tuple(PowerRow(**row) for row in message["rows"]), message["late_s"])
                self._first_round.set()
        status = self._process.wait()
        if status != 0 or not self._ending:
            raise MeasurementError(
                "The process that reads NVML ended.",
                why=f"its exit status is {status}",
                fix="see what it wrote above, and dmesg for errors of the driver",
            )

    def _end(self) -> None:
        self._ending = True
        assert self._process.stdin is not None  # noqa: S101  it was opened with a pipe
        self._process.stdin.close()

    def _halt(self) -> None:
        super()._halt()
        if self._thread.is_alive():
            self._process.kill()


def sampler_for(source: PowerSource, sink: Sink, *, period_s: float = PERIOD_S) -> Sampler:
    """Return the sampler that suits a source: NVML gets a process of its own, anything else a thread."""
    if isinstance(source, NvmlSource):
        return NvmlSampler(source, sink, period_s=period_s)
    return PowerSampler(source, sink, period_s=period_s)


def main(period_s: float, uuids: list[str]) -> None:
    """Read the GPUs every ``period_s`` and print each round, until standard input closes."""
    source = open_nvml(uuids)
    pace = Pace(period_s, source.look)
    threading.Thread(target=_stop_at_end_of_input, args=(pace,), daemon=True).start()
    opened_cpu_s = time.process_time()
    try:
        for late_s in pace:
            rows = [asdict(row) for row in read_round(source, late_s)]
            _print(missed=pace.missed, cpu_s=time.process_time() - opened_cpu_s, late_s=late_s, rows=rows)
    finally:
        source.close()


def _stop_at_end_of_input(pace: Pace) -> None:
    sys.stdin.buffer.read()
    pace.stop()


def _print(**message: object) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    try:
        main(float(sys.argv[1]), sys.argv[2:])
    except HarnessError as error:
        _print(what=error.what, why=error.why, fix=error.fix)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(0)  # whoever asked is gone

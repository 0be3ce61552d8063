"""Build the stand-in for the NVIDIA driver library and describe what it shall pretend.

The dynamic loader reads LD_LIBRARY_PATH once, when a process starts, and the library is never unloaded: each
scenario needs a process of its own, started with ``environment(...)``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_nvml.c")
SONAME = "libnvidia-ml.so.1"

NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED, TIMEOUT, GPU_IS_LOST, UNKNOWN = 3, 4, 9, 10, 15, 999


@dataclass(frozen=True)
class Failure:
    """A call that answers ``code`` from ``after_s`` to ``until_s``.

    It is a function name, a field id, or "*" for a whole GPU; ``gpu`` None means every GPU.
    """

    call: str
    code: int = NOT_SUPPORTED
    after_s: float = 0.0
    gpu: int | None = None
    until_s: float = float("inf")

    def __str__(self) -> str:
        gpu = -1 if self.gpu is None else self.gpu
        return f"{self.call}:{self.code}:{self.after_s}:{gpu}:{self.until_s}"


@dataclass(frozen=True)
class Scenario:
    """What the library pretends.

    ``wave`` is constant, sine, square (mean +- amplitude, half a period each) or steps (``steps_w`` in equal
    parts of the period). GPU i is ``i * phase_s`` ahead. The sensor updates every ``update_s``;
    ``power_gain`` scales power but not energy. At ``reset_s`` the counter restarts from 0; from ``stuck_s``
    on the sensor repeats itself. All these seconds pass ``time_scale`` times as fast as the clock's.
    ``clock_reasons`` hold from ``reasons_from_s`` to ``reasons_until_s``; at ``ecc_s`` each ECC counter grows by one;
    at ``xid_s`` GPU 0 has error ``xid``. The power of the module is ``module_extra_w`` above the GPU's (below 0: it
    is not told).
    """

    gpus: int = 1
    wave: str = "constant"
    mean_w: float = 400.0
    amplitude_w: float = 0.0
    period_s: float = 5.0
    phase_s: float = 0.0
    steps_w: tuple[float, ...] = (400.0,)
    update_s: float = 0.1
    power_gain: float = 1.0
    reset_s: float = float("inf")
    stuck_s: float = float("inf")
    time_scale: float = 1.0
    module_extra_w: float = -1.0
    reasons_from_s: float = 0.0
    reasons_until_s: float = float("inf")
    ecc_s: float = float("inf")
    xid_s: float = float("inf")
    xid: int = 79
    capability: float = 9.0
    persistence: bool = True
    limit_w: float = 700.0
    default_limit_w: float = 700.0
    ecc: bool = True
    mig: bool = False
    field_type: int = 1
    memory_b: int = 80 * 2**30
    clock_reasons: int = 0x4
    name: str = "NVIDIA H100 80GB HBM3"
    pids: tuple[int, ...] = ()
    failures: tuple[Failure, ...] = ()

    def but(self, **changes: object) -> Scenario:
        """Return this scenario with some settings changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


def uuid(index: int) -> str:
    """Return the UUID of a pretended GPU."""
    return f"GPU-00000000-0000-0000-0000-{index:012d}"


def compiler() -> str | None:
    """Find a C compiler, or None."""
    return shutil.which("gcc") or shutil.which("cc")


def build(directory: Path, *, without: tuple[str, ...] = ()) -> Path:
    """Compile the library into ``directory``, lacking the functions in ``without`` as old drivers do."""
    cc = compiler()
    if cc is None:
        raise FileNotFoundError("no C compiler (gcc or cc)")
    library = directory / SONAME
    hidden = directory / "symbols.map"
    local = f"local: {' '.join(f'{name};' for name in without)}" if without else ""
    hidden.write_text(f"{{ global: *; {local} }};\n")
    options = ["-O1", "-Wall", "-Wextra", "-Werror", "-std=gnu11", "-shared", "-fPIC"]
    linking = [f"-Wl,-soname,{SONAME}", f"-Wl,--version-script={hidden}", "-lm"]
    subprocess.run([cc, *options, str(SOURCE), "-o", str(library), *linking], check=True)
    return library


def environment(library: Path, scenario: Scenario) -> dict[str, str]:
    """Return the whole environment for a process that shall see ``scenario`` through ``library``."""
    settings = {f"FAKE_NVML_{field.upper()}": _setting(value) for field, value in vars(scenario).items()}
    search = [str(library.parent), os.environ.get("LD_LIBRARY_PATH", "")]
    return {**os.environ, **settings, "LD_LIBRARY_PATH": ":".join(part for part in search if part)}


def _setting(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return str(int(value)) if isinstance(value, bool) else str(value)

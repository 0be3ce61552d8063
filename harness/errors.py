"""Errors a user can act on: each says what happened, why, and what to do next, and has its own exit code."""

import errno


class HarnessError(Exception):
    """Base of every error the command line turns into one message and an exit code."""

    exit_code = 1

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        """Say ``what`` happened, ``why``, and how to ``fix`` it."""
        self.what, self.why, self.fix = what, why, fix
        super().__init__("\n".join(part for part in (what, why and f"  why: {why}", fix and f"  fix: {fix}") if part))


class ConfigError(HarnessError):
    """The options or the configuration file cannot be used as given."""

    exit_code = 2


class NodeError(HarnessError):
    """This machine cannot do what was asked: no driver, a MIG device, too little memory, no node profile."""

    exit_code = 3


class ServerError(HarnessError):
    """The LLM server did not start, did not become ready, or died."""

    exit_code = 4


class WorkloadError(HarnessError):
    """A workload, trace or table cannot be read or makes no sense."""

    exit_code = 5


class StoreError(HarnessError):
    """A run folder cannot be written, or is not a run this version can read."""

    exit_code = 6


_WRITE_FIXES = {errno.ENOSPC: "free disk space and run again", errno.EDQUOT: "free disk space and run again"}


def not_written(what: str, error: OSError) -> StoreError:
    """Return the error that ``what`` cannot be written, with the system's reason and what helps against it."""
    fix = _WRITE_FIXES.get(error.errno or 0, "make it writable and run again")
    return StoreError(f"cannot write to {what}", why=error.strerror or str(error), fix=fix)


class MeasurementError(HarnessError):
    """The measurement ended without a usable result."""

    exit_code = 7

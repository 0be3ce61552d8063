"""A run on disk: written as it happens, so that an interruption loses nothing already measured.

Tables grow as numbered parquet parts, each complete when it appears; JSON files are replaced whole; events are
appended line by line. A reader needs nothing but this folder.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from results.tables import TABLES, TIME_COLUMNS

Row = Mapping[str, Any]

HASHES_FILE = "hashes.json"
"""SHA-256 of every other file of a run, by its path in the run folder, as the run's end left them."""


class StoredRunError(ValueError):
    """A folder is not a run, or is damaged."""


class RunWriteError(OSError):
    """A run folder cannot be written to, for the reason that the system gave."""


@contextmanager
def _naming_failed_writes() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunWriteError(error.errno, os.strerror(error.errno) if error.errno else str(error)) from error


class RunWriter:
    """Writes one run folder; rows may come from any thread. What cannot be written raises ``RunWriteError``."""

    def __init__(self, folder: Path) -> None:
        """Create ``folder``, which must not exist yet; raises ``OSError`` where that is not possible."""
        folder.mkdir(parents=True)
        for name in TABLES:
            (folder / name).mkdir()
        self._open(folder)

    @classmethod
    def reopened(cls, folder: Path) -> RunWriter:
        """Return a writer that goes on with the run in ``folder``: tables continue after their last part.

        A last event that a crash cut off is dropped, as readers do, and so are the hashes of the run's earlier end.
        """
        (folder / HASHES_FILE).unlink(missing_ok=True)
        events = folder / "events.jsonl"
        if events.is_file():
            log = events.read_bytes()
            os.truncate(events, log.rfind(b"\n") + 1)
        writer = cls.__new__(cls)
        writer._open(folder)
        return writer

    def _open(self, folder: Path) -> None:
        self.folder = folder
        self._lock, self._flushing = threading.Lock(), threading.Lock()
        self._rows: dict[str, list[Row]] = {name: [] for name in TABLES}
        self._parts = {name: _next_part(folder / name) for name in TABLES}

    def add(self, table: str, rows: Iterable[Row]) -> None:
        """Keep ``rows`` for the next flush."""
        with self._lock:
            self._rows[table].extend(rows)

    def flush(self) -> None:
        """Write what has gathered as one new part a table."""
        with self._flushing:  # two at once would write parts of one number
            for name in TABLES:
                with self._lock:
                    rows = list(self._rows[name])
                if rows:
                    part = self.folder / name / f"part-{self._parts[name]:05d}.parquet"
                    with _naming_failed_writes(), _replacing(part) as unfinished:
                        pq.write_table(pa.Table.from_pylist(rows, schema=TABLES[name]), unfinished)
                    self._parts[name] += 1
                    with self._lock:  # only now: a failed write must not lose them
                        del self._rows[name][: len(rows)]

    def event(self, kind: str, **fields: Any) -> None:
        """Append one event with both clocks, whole or not at all."""
        event = {"t_mono_s": time.monotonic(), "t_wall_s": time.time(), "event": kind, **fields}
        line = (json.dumps(event, allow_nan=False) + "\n").encode()
        with _naming_failed_writes(), (self.folder / "events.jsonl").open("ab", buffering=0) as log:
            start = log.tell()
            if log.write(line) < len(line):
                log.truncate(start)  # half an event would spoil the next one too
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_text(self, name: str, text: str) -> Path:
        """Write a file whole: a reader sees the old content or the new, never a half."""
        with _naming_failed_writes():
            return write_whole(self.folder / name, text)

    def write_json(self, name: str, content: Any) -> Path:
        """Write JSON whole."""
        return self.write_text(name, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def seal(self) -> Path:
        """Write the hashes of all files of the run, so that a later change shows."""
        return self.write_json(HASHES_FILE, file_hashes(self.folder))

    def abandon(self) -> None:
        """Leave things as they were where a run cannot begin: no folder, or that of an earlier run, sealed again."""
        if (self.folder / "manifest.json").is_file():
            self.seal()
        else:
            shutil.rmtree(self.folder)


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below ``folder`` except the file of hashes, by path, in order of paths."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
    hashes.pop(HASHES_FILE, None)
    return hashes


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _next_part(table: Path) -> int:
    """Return the number after that of a table's last part."""
    return 1 + max((int(part.stem.removeprefix("part-")) for part in table.glob("part-*.parquet")), default=-1)


def write_whole(path: Path, text: str) -> Path:
    """Write a file, and its folder if need be, so that a reader sees the old content or the new, never a half.

    A link is followed. What is no file, such as a device or a pipe, is written to and stays what it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return path
    with _replacing(Path(os.path.realpath(path))) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return path


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give a file to write that then takes the place of ``path``; one that fails half way is removed."""
    unfinished = path.with_name(path.name + ".tmp")
    try:
        yield unfinished
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise


class RunReader:
    """Reads one run folder."""

    def __init__(self, folder: Path) -> None:
        """Open ``folder``; raises ``StoredRunError`` if it holds no run."""
        if not (folder / "manifest.json").is_file():
            raise StoredRunError(f"{folder} is not a run folder: it has no manifest.json")
        self.folder = folder

    def json(self, name: str) -> Any:
        """Return the content of a JSON file; raises ``StoredRunError`` if it is missing or broken."""
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise StoredRunError(f"cannot read {self.folder / name}: {error}") from error

    def has(self, name: str) -> bool:
        """Return whether the run has this file."""
        return (self.folder / name).is_file()

    def events(self) -> list[dict[str, Any]]:
        """Return the event log, in order; a last line cut off by a crash is left out."""
        path = self.folder / "events.jsonl"
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
        complete_lines = lines[:-1]
        try:
            events = [json.loads(line) for line in complete_lines]
        except ValueError as error:
            raise StoredRunError(f"cannot read {path}: {error}") from error
        if not all(map(_is_event, events)):
            raise StoredRunError(f"cannot read {path}: it has lines that are no events")
        return events

    def table(self, name: str, *, since_s: float | None = None) -> pd.DataFrame:
        """Return a whole table, in the order it was written; empty with its columns if nothing was measured.

        With ``since_s`` (monotonic seconds), parts whose rows all come before that time are left unread.
        """
        parts = sorted((self.folder / name).glob("part-*.parquet"))
        read = (_read_part(part, TABLES[name], TIME_COLUMNS[name], since_s) for part in parts)
        whole: pd.DataFrame = pa.concat_tables([TABLES[name].empty_table(), *filter(None, read)]).to_pandas()
        return whole


def _is_event(line: Any) -> bool:
    return (
        isinstance(line, dict) and isinstance(line.get("event"), str) and isinstance(line.get("t_mono_s"), int | float)
    )


def _read_part(part: Path, schema: pa.Schema, time_column: str, since_s: float | None) -> pa.Table | None:
    """Return a part's rows, columns that it lacks as nulls, or ``None`` if all come before ``since_s``."""
    try:
        with pq.ParquetFile(part) as file:
            if since_s is not None and _last_s(file, time_column) < since_s:
                return None
            stored = set(file.schema_arrow.names)
            rows = file.read(columns=[name for name in schema.names if name in stored], use_threads=False)
        for field in (field for field in schema if field.name not in stored):
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
        return rows.select(schema.names).cast(schema)
    except (OSError, pa.ArrowException) as error:
        raise StoredRunError(f"cannot read {part}: {error}") from error


def _last_s(file: pq.ParquetFile, time_column: str) -> float:
    """Return the latest time in a part, by its footer; infinity where the footer does not tell."""
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    columns = [group.column(file.schema_arrow.names.index(time_column)) for group in groups]
    known = [column.statistics for column in columns if column.is_stats_set and column.statistics.has_min_max]
    return max(statistics.max for statistics in known) if groups and len(known) == len(groups) else inf

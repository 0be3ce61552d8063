"""Everything a run folder says, read as it lies there: nothing is taken from how the harness analyses a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from harness.errors import StoreError
from results.store import RunReader, StoredRunError
from results.tables import TABLES

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One cell: what was reported of it, and its raw record between quiet and quiet (monotonic seconds).

    ``usage_only`` says that a server exports no token counter, so that tokens are the usage of requests. Its load goes
    on after its end until those in flight then have answered: requests due later are no part of the record.
    """

    reported: Json
    definition: Json
    event_number: int
    quiet_s: float
    start_s: float
    filled_s: float
    load_stop_s: float
    end_s: float
    ended: bool
    server_lost: bool
    usage_only: bool
    scrapes: pd.DataFrame
    requests: pd.DataFrame

    @property
    def name(self) -> str:
        """Return the cell's name."""
        return str(self.definition["name"])

    @property
    def window_s(self) -> tuple[float, float] | None:
        """Return the edges of the reported window, or ``None`` without one."""
        window = self.reported.get("window")
        return None if window is None else (float(window["start_mono_s"]), float(window["end_mono_s"]))

    @property
    def scrapes_s(self) -> list[float]:
        """Return when the server that the window is cut by was scraped, or else the first; failed scrapes left out."""
        by_server = [_answered_s(rows) for _, rows in self.scrapes.groupby("server", sort=True)]
        edges = set(self.window_s or ())
        return next((times_s for times_s in by_server if edges <= set(times_s)), by_server[0] if by_server else [])


def _answered_s(rows: pd.DataFrame) -> list[float]:
    counted = rows[rows["generation_tok"].notna()]
    return sorted((counted if len(counted) else rows)["t_mono_s"].tolist())


@dataclass(frozen=True)
class Evidence:
    """A run folder: its documents, events and tables, and its cells in the order they were measured."""

    folder: Path
    manifest: Json
    result: Json
    prediction: Json | None
    events: list[dict[str, Any]]
    power: pd.DataFrame
    client: pd.DataFrame
    cells: tuple[Cell, ...]

    @property
    def blind(self) -> bool:
        """Return whether some server of the run exports no token counter."""
        return any(event["event"] == "no_token_counter" for event in self.events)

    @property
    def pairs(self) -> list[tuple[Cell, Cell]]:
        """Return the compared cells in pairs: the n-th plain one with the n-th multiplied one."""
        compared = [cell for cell in self.cells if cell.reported and cell.definition["role"] == "compared"]
        plain = [cell for cell in compared if cell.definition["multiplier"] == 1]
        multiplied = [cell for cell in compared if cell.definition["multiplier"] != 1]
        return list(zip(plain, multiplied, strict=False))

    def readings(self, uuid: str) -> pd.DataFrame:
        """Return a device's readings."""
        rows: pd.DataFrame = self.power[self.power["uuid"] == uuid]
        return rows


def read_evidence(folder: Path) -> Evidence:
    """Read a run folder; raises ``StoreError`` where it cannot be checked at all."""
    try:
        reader = RunReader(folder)
        manifest, result, events = reader.json("manifest.json"), reader.json("result.json"), reader.events()
        prediction = reader.json("prediction.json") if reader.has("prediction.json") else None
        tables = {name: reader.table(name) for name in TABLES}
        cells = tuple(_cells(result, events, tables))
    except StoredRunError as error:
        raise _refused(folder, str(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _refused(folder, f"its files are not those of a run: {type(error).__name__}: {error}") from error
    tables["power"]["uuid"] = tables["power"]["uuid"].astype("category")  # else looking for a device's rows takes long
    return Evidence(folder, manifest, result, prediction, events, tables["power"], tables["client"], cells)


def _refused(folder: Path, why: str) -> StoreError:
    return StoreError(
        f"cannot verify the run {folder}", why=why, fix="give a whole run folder that harness stress or sweep left"
    )


def _cells(result: Json, events: list[dict[str, Any]], tables: Mapping[str, pd.DataFrame]) -> Iterator[Cell]:
    reported: dict[tuple[str, int], Json] = {}
    seen: Counter[str] = Counter()
    for cell in (*result["cells"], *result["calibration_cells"]):
        reported[cell["name"], seen[cell["name"]]] = cell
        seen[cell["name"]] += 1
    starts = [number for number, event in enumerate(events) if event["event"] == "cell_start"]
    visited: Counter[str] = Counter()
    blind = any(event["event"] == "no_token_counter" for event in events)
    for start, following in pairwise([*starts, len(events)]):
        name = str(events[start]["definition"]["name"])
        later = {event["event"]: event for event in events[start + 1 : following]}
        yield _cell(reported.get((name, visited[name]), {}), events[start], start, later, tables, blind=blind)
        visited[name] += 1


def _cell(
    reported: Json,
    start: Json,
    number: int,
    later: Mapping[str, Json],
    tables: Mapping[str, pd.DataFrame],
    *,
    blind: bool,
) -> Cell:
    server, requests = tables["server"], tables["requests"]
    requests = requests[requests["cell"] == start["definition"]["name"]]
    quiet_s = float(start["quiet_mono_s"])
    last_seen_s = float(server["t_mono_s"].max()) if len(server) else quiet_s
    stop_s = float(later["load_stop"]["t_mono_s"]) if "load_stop" in later else last_seen_s
    end_s = float(later["cell_end"]["t_mono_s"]) if "cell_end" in later else stop_s
    scrapes = server[(server["t_mono_s"] >= quiet_s) & (server["t_mono_s"] <= end_s)]
    usage_only = blind and any(rows["generation_tok"].notna().sum() == 0 for _, rows in scrapes.groupby("server"))
    if usage_only:
        scheduled = requests["scheduled_mono_s"].notna()
        after = requests["send_mono_s"].where(~scheduled, requests["scheduled_mono_s"]) > stop_s
        requests = requests[~after]
    return Cell(
        reported=reported,
        definition=start["definition"],
        event_number=number,
        quiet_s=quiet_s,
        start_s=float(start["t_mono_s"]),
        filled_s=float(later.get("filled", start)["t_mono_s"]),
        load_stop_s=stop_s,
        end_s=end_s,
        ended="cell_end" in later,
        server_lost="server_lost" in later,
        usage_only=usage_only,
        scrapes=scrapes,
        requests=requests,
    )

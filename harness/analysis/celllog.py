"""Cut a stored run into cells: for each, its definition, its times and its rows. Reads only the run folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.analysis.devices import AFTER, BEFORE, BEFORE_LAUNCH, StoredStates, states_around
from harness.analysis.energy import DeviceSeries
from harness.load.usage import due_s, servers_without_counter, usage_known_until_s, with_usage_tokens
from results.schema import CellDefinition
from results.store import RunReader

FloatArray = npt.NDArray[np.float64]

POWER_MARGIN_S = 10.0
"""Power is kept beyond a cell, so that interpolation at its edges has readings of a slow meter on both sides."""

_SERIES_COLUMNS = ("t_mono_s", "uuid", "power_w", "energy_j", "error", "energy_age_s", "energy_age_bound_s")


@dataclass(frozen=True)
class CellLog:
    """The raw record of one cell. Times are monotonic seconds; ``end_s`` is ``None`` if the cell was cut short.

    ``before_s`` is when the servers were last seen quiet before the load, ``filled_s`` when every slot had begun to
    generate, ``end_s`` when the servers were quiet again. ``client`` is how the load clients kept up;
    ``usage_servers`` are those without a token counter, whose tokens are spread usage. ``states`` are the devices'
    around the load, None where the run stored none. ``under_load`` says that the load lasts, so that nothing is logged
    of requests in flight.
    """

    definition: CellDefinition
    before_s: float
    filled_s: float
    load_stop_s: float
    end_s: float | None
    server: pd.DataFrame
    power: pd.DataFrame
    requests: pd.DataFrame
    server_lost: bool
    client: pd.DataFrame = field(default_factory=pd.DataFrame)
    usage_servers: tuple[int, ...] = ()
    states: StoredStates | None = None
    under_load: bool = False

    @property
    def tokens_from_usage(self) -> bool:
        """Return whether the tokens of some server are spread usage."""
        return bool(self.usage_servers)


@dataclass(frozen=True)
class IdleLog:
    """The raw record of an idle phase."""

    start_s: float
    end_s: float
    power: pd.DataFrame
    states: StoredStates | None = None


def read_cells(reader: RunReader) -> list[CellLog]:
    """Return the cells of a run in the order they were measured, unfinished ones included."""
    tables = {name: reader.table(name) for name in ("server", "power", "requests", "client")}
    events = reader.events()
    return [_cell_log(events, start, later, tables) for start, later in _cell_events(events)]


def read_last_cell(reader: RunReader, name: str) -> CellLog:
    """Return the last cell of a name, from the parts of its own stretch alone: cheap while a long run goes on.

    How its clients kept up is left out.
    """
    events = reader.events()
    start, later = [found for found in _cell_events(events) if found[0]["cell"] == name][-1]
    since_s = float(start["quiet_mono_s"]) - POWER_MARGIN_S
    tables = {name: reader.table(name, since_s=since_s) for name in ("server", "power", "requests")}
    return replace(_cell_log(events, start, later, tables), under_load="load_stop" not in later)


def _cell_log(
    events: list[dict[str, Any]],
    start: dict[str, Any],
    later: dict[str, dict[str, Any]],
    tables: Mapping[str, pd.DataFrame],
) -> CellLog:
    """Cut one cell, of which ``start`` and the events up to the next cell are given, out of the run's tables.

    Where tokens are the usage of requests, the load goes on after its end until those in flight then have completed:
    what was due later is left out. While such a load lasts, its record ends where the first unknown tokens begin.
    """
    server, requests = tables["server"], tables["requests"]
    without_counter = any(event["event"] == "no_token_counter" for event in events)
    last_seen_s = float(server["t_mono_s"].max()) if len(server) else 0.0
    definition = CellDefinition.model_validate(start["definition"])
    start_s, quiet_s = float(start["t_mono_s"]), float(start["quiet_mono_s"])
    stop_s = float(later["load_stop"]["t_mono_s"]) if "load_stop" in later else last_seen_s
    end_s = float(later["cell_end"]["t_mono_s"]) if "cell_end" in later else None
    until_s = end_s if end_s is not None else stop_s
    scrapes = _between(server, quiet_s, until_s)
    sent = requests[requests["cell"] == definition.name]
    usage_servers = servers_without_counter(scrapes) if without_counter else ()
    if usage_servers:
        scrapes = with_usage_tokens(scrapes, sent)
        if "load_stop" not in later:
            scrapes = _between(scrapes, quiet_s, usage_known_until_s(sent, definition.concurrency))
        sent = sent[~(due_s(sent) > stop_s)]
    return CellLog(
        definition,
        before_s=quiet_s,
        filled_s=float(later.get("filled", start)["t_mono_s"]),
        load_stop_s=stop_s,
        end_s=end_s,
        server=scrapes,
        power=_between(tables["power"], start_s - POWER_MARGIN_S, until_s + POWER_MARGIN_S),
        requests=sent,
        server_lost="server_lost" in later,
        client=_between(tables["client"], start_s, until_s) if "client" in tables else pd.DataFrame(),
        usage_servers=usage_servers,
        states=states_around(_launch(events, start_s), later.get(BEFORE), later.get(AFTER)),
    )


def read_idle(reader: RunReader, phase: str = "idle") -> IdleLog | None:
    """Return the record of loaded idle (``idle``) or ``bare_idle``, or ``None`` if the run has no such phase."""
    events = reader.events()
    times = {event["event"]: float(event["t_mono_s"]) for event in events}
    if f"{phase}_start" not in times or f"{phase}_end" not in times:
        return None
    start_s, end_s = times[f"{phase}_start"], times[f"{phase}_end"]
    power = _between(reader.table("power"), start_s - POWER_MARGIN_S, end_s + POWER_MARGIN_S)
    return IdleLog(start_s, end_s, power, _idle_states(events, start_s, end_s))


def _idle_states(events: Sequence[dict[str, Any]], start_s: float, end_s: float) -> StoredStates | None:
    inside = {str(event["event"]): event for event in events if start_s <= float(event["t_mono_s"]) <= end_s}
    return states_around(_launch(events, start_s), inside.get(BEFORE), inside.get(AFTER))


def _launch(events: Sequence[dict[str, Any]], before_s: float) -> dict[str, Any] | None:
    """Return the states stored before the servers of a stretch were launched; a resumed run launches again."""
    stored = [event for event in events if event["event"] == BEFORE_LAUNCH and float(event["t_mono_s"]) <= before_s]
    return stored[-1] if stored else None


def _cell_events(
    events: list[dict[str, Any]],
) -> Iterator[tuple[dict[str, Any], dict[str, dict[str, Any]]]]:
    starts = [number for number, event in enumerate(events) if event["event"] == "cell_start"]
    for start, end in pairwise([*starts, len(events)]):
        yield events[start], {str(event["event"]): event for event in events[start + 1 : end]}


def _between(table: pd.DataFrame, start_s: float, end_s: float) -> pd.DataFrame:
    inside: pd.DataFrame = table[table["t_mono_s"].between(start_s, end_s)]
    return inside


def stored_series(power: pd.DataFrame, uuids: Sequence[str]) -> list[DeviceSeries]:
    """Return the readings of each of ``uuids`` in time order; a device without readings has an empty series."""
    power = power[[name for name in _SERIES_COLUMNS if name in power]]
    rows_by_uuid = {str(uuid): rows for uuid, rows in power.sort_values("t_mono_s").groupby("uuid")}
    return [_series(uuid, rows_by_uuid.get(uuid, power.iloc[:0])) for uuid in uuids]


def _series(uuid: str, rows: pd.DataFrame) -> DeviceSeries:
    return DeviceSeries(
        uuid,
        t_s=rows["t_mono_s"].to_numpy(float),
        power_w=rows["power_w"].to_numpy(float),
        energy_j=rows["energy_j"].to_numpy(float),
        errors=_errors(rows["error"]),
        energy_age_s=rows["energy_age_s"].to_numpy(float) if "energy_age_s" in rows else None,
        energy_age_bound_s=rows["energy_age_bound_s"].to_numpy(float) if "energy_age_bound_s" in rows else None,
    )


def _errors(column: pd.Series[Any]) -> tuple[str | None, ...]:
    """Return the error of each reading or ``None``; nearly all are, so only the others are looked at."""
    errors: list[str | None] = [None] * len(column)
    known = column.reset_index(drop=True).dropna()
    for number, error in known.items():
        errors[int(str(number))] = str(error)
    return tuple(errors)


def sum_over_servers(server: pd.DataFrame, column: str) -> tuple[FloatArray, FloatArray]:
    """Return times and the sum over servers of ``column``, at the scrape times of the first server.

    Servers are scraped one after the other; the others' values are interpolated to the first one's times.
    Scrapes that failed are left out, and so are the first one's after the last of any other.
    """
    known = server.dropna(subset=[column]).sort_values("t_mono_s")
    by_server = [rows for _, rows in known.groupby("server", sort=True)]
    if not by_server or len(by_server) < server["server"].nunique():
        return np.empty(0), np.empty(0)
    t_s = by_server[0]["t_mono_s"].to_numpy(float)
    t_s = t_s[t_s <= max(t_s[0], min(float(rows["t_mono_s"].max()) for rows in by_server))]
    total = np.zeros_like(t_s)
    for rows in by_server:
        total += np.interp(t_s, rows["t_mono_s"].to_numpy(float), rows[column].to_numpy(float))
    return t_s, total


def growth_over_servers(server: pd.DataFrame, column: str) -> float | None:
    """Return how much a counter grew from each server's first to its last scrape, summed; ``None`` if not exported.

    Exact where the servers are quiet at both ends, because nothing is interpolated.
    """
    known = server.dropna(subset=[column]).sort_values("t_mono_s")
    if known.empty or known["server"].nunique() < server["server"].nunique():
        return None
    return float(sum(rows[column].iloc[-1] - rows[column].iloc[0] for _, rows in known.groupby("server")))

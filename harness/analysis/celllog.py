"""Cut a stored run into cells: for each, its definition, its times and its rows. Reads only the run folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.analysis.energy import DeviceSeries
from harness.load.usage import lacks_counter, with_usage_tokens
from results.schema import CellDefinition
from results.store import RunReader

FloatArray = npt.NDArray[np.float64]

POWER_MARGIN_S = 10.0
"""Power is kept beyond a cell, so that interpolation at its edges has readings of a slow meter on both sides."""


@dataclass(frozen=True)
class CellLog:
    """The raw record of one cell. Times are monotonic seconds; ``end_s`` is ``None`` if the cell was cut short.

    ``before_s`` is when the servers were last seen quiet before the load, ``filled_s`` when every slot had begun to
    generate, ``end_s`` when the servers were quiet again. ``client`` is how the load clients kept up;
    ``tokens_from_usage`` says that some server exports no token counter, so that its tokens are spread usage.
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
    tokens_from_usage: bool = False


@dataclass(frozen=True)
class IdleLog:
    """The raw record of the loaded-idle phase."""

    start_s: float
    end_s: float
    power: pd.DataFrame


def read_cells(reader: RunReader) -> list[CellLog]:
    """Return the cells of a run in the order they were measured, unfinished ones included."""
    server, power, requests, client = (reader.table(name) for name in ("server", "power", "requests", "client"))
    events = reader.events()
    without_counter = any(event["event"] == "no_token_counter" for event in events)
    last_seen_s = float(server["t_mono_s"].max()) if len(server) else 0.0
    cells = []
    for start, later in _cell_events(events):
        definition = CellDefinition.model_validate(start["definition"])
        stop_s = float(later["load_stop"]["t_mono_s"]) if "load_stop" in later else last_seen_s
        end_s = float(later["cell_end"]["t_mono_s"]) if "cell_end" in later else None
        until_s = end_s if end_s is not None else stop_s
        scrapes = _between(server, float(start["quiet_mono_s"]), until_s)
        sent = requests[requests["cell"] == definition.name]
        cells.append(
            CellLog(
                definition,
                before_s=float(start["quiet_mono_s"]),
                filled_s=float(later.get("filled", start)["t_mono_s"]),
                load_stop_s=stop_s,
                end_s=end_s,
                server=with_usage_tokens(scrapes, sent) if without_counter else scrapes,
                power=_between(power, float(start["t_mono_s"]) - POWER_MARGIN_S, until_s + POWER_MARGIN_S),
                requests=sent,
                server_lost="server_lost" in later,
                client=_between(client, float(start["t_mono_s"]), until_s),
                tokens_from_usage=without_counter and lacks_counter(scrapes),
            )
        )
    return cells


def read_idle(reader: RunReader) -> IdleLog | None:
    """Return the loaded-idle record, or ``None`` if the run did not get that far."""
    times = {event["event"]: float(event["t_mono_s"]) for event in reader.events()}
    if "idle_start" not in times or "idle_end" not in times:
        return None
    start_s, end_s = times["idle_start"], times["idle_end"]
    power = _between(reader.table("power"), start_s - POWER_MARGIN_S, end_s + POWER_MARGIN_S)
    return IdleLog(start_s, end_s, power)


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
    rows_by_uuid = {str(uuid): rows for uuid, rows in power.sort_values("t_mono_s").groupby("uuid")}
    return [_series(uuid, rows_by_uuid.get(uuid, power.iloc[:0])) for uuid in uuids]


def _series(uuid: str, rows: pd.DataFrame) -> DeviceSeries:
    return DeviceSeries(
        uuid,
        t_s=rows["t_mono_s"].to_numpy(float),
        power_w=rows["power_w"].to_numpy(float),
        energy_j=rows["energy_j"].to_numpy(float),
        errors=tuple(error if isinstance(error, str) else None for error in rows["error"]),
        energy_age_s=rows["energy_age_s"].to_numpy(float) if "energy_age_s" in rows else None,
        energy_age_bound_s=rows["energy_age_bound_s"].to_numpy(float) if "energy_age_bound_s" in rows else None,
    )


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

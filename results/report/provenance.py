"""Where a run comes from, and how anyone can check it."""

from __future__ import annotations

import re
import shlex
from datetime import datetime, timezone
from typing import Any

from results.report.view import RunView
from results.report.words import NOT_KNOWN, percent
from results.schema import Manifest

_SECRET = re.compile(r"(key|token|secret|password)(=|$)", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/@\s]+@")
"""What stands before the host of an address: a user, often with a password."""
_NO_SECRET = re.compile(r"(max|num|min)[-_]|tokenizer", re.IGNORECASE)


def provenance(view: RunView) -> tuple[tuple[str, str], ...]:
    """Return what identifies a run as names and values."""
    manifest, run = view.manifest, view.result.run
    return (
        ("run", run.id),
        ("folder", run.path),
        ("began", _time(manifest.started_wall_s)),
        ("ended", f"{_time(manifest.ended_wall_s)}, status {run.status}"),
        ("model", run.model),
        ("server", f"version {run.server_version or 'unknown'}, context {manifest.context_tok or 'unknown'} tokens"),
        *((f"server {number} command", _command(server.argv)) for number, server in enumerate(manifest.servers)),
        ("devices", _devices(manifest)),
        ("host", _pairs(manifest.host)),
        ("power source", f"{manifest.power.name}; gain u {percent(manifest.power.gain_rel_u)}" + _notes(manifest)),
        ("boundary", manifest.boundary),
        ("node profile", _profile(manifest)),
        ("PUE", f"{manifest.pue.mean:.4g}: {manifest.pue.source}"),
        ("prediction", run.prediction),
        ("workload", _pairs(manifest.workload)),
        ("options", _pairs(manifest.config)),
        ("versions", _pairs(manifest.versions)),
        *((f"SHA-256 of {name}", digest) for name, digest in view.hashes.items()),
    )


def verify_command(view: RunView) -> str:
    """Return the command that derives every figure again from the raw files and checks their hashes."""
    return f"harness verify {shlex.quote(view.result.run.path)}"


def _time(wall_s: float | None) -> str:
    if wall_s is None:
        return "unknown"
    return datetime.fromtimestamp(wall_s, tz=timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _command(argv: tuple[str, ...]) -> str:
    """Return a command line without what looks like a credential; an empty one was not launched by the run."""
    shown, hide = [], False
    for word in argv:
        name, _, value = word.partition("=")
        secret = name.startswith("-") and _SECRET.search(name) is not None and _NO_SECRET.search(name) is None
        shown.append("(hidden)" if hide else f"{name}=(hidden)" if secret and value else word)
        hide = secret and not value and not hide
    return _USER.sub("(hidden)@", shlex.join(shown)) if argv else "already running: its options are unknown"


def _devices(manifest: Manifest) -> str:
    names = [str(device.get("name") or "unknown") for device in manifest.devices]
    counted = ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names)) or "none"
    uuids = ", ".join(str(device.get("uuid")) for device in manifest.devices)
    return f"{counted} ({uuids})" if uuids else counted


def _profile(manifest: Manifest) -> str:
    profile = manifest.node_profile
    if profile is None:
        return "none"
    return (
        f"{profile['name']}: P = {profile['offset_kw']:g} kW + {profile['slope']:g} × GPU power, P_max "
        f"{profile['p_max_kw']:g} kW; {percent(manifest.node_share)} of it, allocation "
        f"{manifest.allocation}; {profile['source']}"
    )


def _notes(manifest: Manifest) -> str:
    return f"; {'; '.join(manifest.power.notes)}" if manifest.power.notes else ""


def _pairs(values: dict[str, Any]) -> str:
    """Return a mapping as text; what looks like a credential is hidden."""
    kept = {key: value for key, value in values.items() if value not in (None, "", [], {})}
    hidden = {key for key in kept if _SECRET.search(key) and not _NO_SECRET.search(key)}
    return (
        "; ".join(f"{key}: {'(hidden)' if key in hidden else _value(value)}" for key, value in kept.items())
        or NOT_KNOWN
    )


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)) and value:
        return _command(tuple(map(str, value)))
    return _USER.sub("(hidden)@", str(value))

"""Node power by Redfish: the node's management controller over HTTPS.

It is slow (an answer can take seconds), so it is polled at its own pace, on its own thread, like every meter.
The address and user come from the option or the environment; the password comes from the environment or a file,
is sent to the controller alone and is never stored.
"""

from __future__ import annotations

import math
import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certifi
from redfish import redfish_client
from redfish.rest.v1 import (
    BadRequestError,
    DecompressResponseError,
    InvalidCredentialsError,
    JsonDecodingError,
    RetriesExhaustedError,
    ServerDownOrUnreachableError,
    SessionCreationError,
)

from harness.errors import ConfigError, NodeError
from harness.power.base import DeviceIdentity, DeviceSample

TIMEOUT_S = 4.0
UNAUTHORIZED = 401
ROOT = "/redfish/v1/"

_PREFIX = "HARNESS_REDFISH_"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_FAILURES = (
    RetriesExhaustedError, InvalidCredentialsError, SessionCreationError, ServerDownOrUnreachableError,
    JsonDecodingError, DecompressResponseError, BadRequestError, OSError,
)  # fmt: skip
_SETTINGS = f"set {_PREFIX}URL (or redfish:https://...), {_PREFIX}USER and {_PREFIX}PASSWORD or {_PREFIX}PASSWORD_FILE"


@dataclass(frozen=True)
class RedfishSettings:
    """How to reach the controller. ``ca_file`` is None where the certificate is not to be verified."""

    url: str
    user: str
    password: str = field(repr=False)
    ca_file: str | None
    chassis: str | None


@dataclass(frozen=True)
class _Place:
    """Where the node's watts stand, and what is told about the sensor."""

    chassis: str
    chassis_type: str
    path: str
    member: int | None  # of PowerControl; None in EnvironmentMetrics
    sensor: Mapping[str, Any]
    control_count: int = 1

    def watts(self, document: Mapping[str, Any]) -> float:
        """Return the reading; raises ValueError where it is absent, 0 or no number."""
        if self.member is None:
            value = (document.get("PowerWatts") or {}).get("Reading")
        else:
            controls = document.get("PowerControl") or []
            value = controls[self.member].get("PowerConsumedWatts") if self.member < len(controls) else None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
            raise ValueError(f"the controller reports {value!r} W")
        return float(value)


class RedfishSource:
    """The node as its management controller meters it; made by ``open_redfish``."""

    name = "redfish"
    boundary = "node"
    power_lag_s = 0.0
    period_s = 2.0
    counter_lag_s = 0.0

    def __init__(self, session: _Session, place: _Place, *, verified: bool) -> None:
        """Take over a session and the place that ``open_redfish`` found."""
        self._session, self._place = session, place
        self._uuid = f"redfish:{place.chassis}"
        self.devices: tuple[DeviceIdentity, ...] = (DeviceIdentity(uuid=self._uuid, name=f"chassis {place.chassis}"),)
        accuracy_pct = _accuracy_pct(place.sensor)
        self.gain_rel_u: float | None = None if accuracy_pct is None else accuracy_pct / 100 / math.sqrt(3)
        self.notes = tuple(self._notes(accuracy_pct, verified=verified))

    def _notes(self, accuracy_pct: float | None, *, verified: bool) -> Iterator[str]:
        place = self._place
        where = "EnvironmentMetrics.PowerWatts" if place.member is None else f"PowerControl[{place.member}]"
        yield f"Redfish chassis {place.chassis}: {where} of {place.path}, asked every {self.period_s:g} s"
        yield "a node meter includes GPUs that this run does not use"
        if place.control_count > 1:
            yield f"the first of {place.control_count} PowerControl entries is taken as the whole chassis"
        interval = place.sensor.get("SensingInterval")
        yield f"the sensor refreshes every {interval}" if interval else "how often the reading is refreshed is unknown"
        if accuracy_pct is None:
            yield "the accuracy of the sensor is not stated, so it is unknown"
        else:
            yield f"the sensor states an accuracy of +-{accuracy_pct:g}%"
        if not verified:
            yield "the controller's certificate was not verified"

    def read(self) -> tuple[DeviceSample, ...]:
        """Ask once; what goes wrong is named in ``error``. An equal value may be a repeated one: it is kept as read."""
        try:
            return (DeviceSample(self._uuid, power_w=self._place.watts(self._session.get(self._place.path))),)
        except (NodeError, ValueError) as error:
            cause = (error.why or error.what) if isinstance(error, NodeError) else str(error)
            return (DeviceSample(self._uuid, error=f"power_w: {cause}"),)

    def close(self) -> None:
        """End the session; a controller that no longer answers keeps it until it expires."""
        self._session.close()


def open_redfish(url: str = "", environment: Mapping[str, str] = os.environ) -> RedfishSource:
    """Log in and find the node's power; ``ConfigError`` for settings, ``NodeError`` for what the controller says."""
    settings = redfish_settings(url, environment)
    session = _Session(settings)
    try:
        return RedfishSource(session, _find_place(session, settings.chassis), verified=settings.ca_file is not None)
    except BaseException:
        session.close()
        raise


def redfish_settings(url: str, environment: Mapping[str, str]) -> RedfishSettings:
    """Gather the settings; raises ``ConfigError`` for missing ones and for a password where others could see it.

    ``HARNESS_REDFISH_CA_FILE`` names the authority of the controller's certificate; ``HARNESS_REDFISH_VERIFY=no``
    turns verification off. ``HARNESS_REDFISH_CHASSIS`` chooses among several chassis. An empty variable is not set.
    """
    environment = {name: value for name, value in environment.items() if value}
    url = (url or environment.get(f"{_PREFIX}URL", "")).rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("redfish: the address of the controller is missing or no URL.", fix=_SETTINGS)
    if parts.username or parts.password:
        raise ConfigError(
            "redfish: the address must not carry user or password.", why="others can read a command line", fix=_SETTINGS
        )
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ConfigError("redfish: http:// would send the password in the clear.", fix="use https://")
    user, password = environment.get(f"{_PREFIX}USER", ""), _password(environment)
    if not user:
        raise ConfigError("redfish: the user is missing.", fix=_SETTINGS)
    verify = environment.get(f"{_PREFIX}VERIFY", "yes").lower()
    if verify not in ("yes", "no"):
        raise ConfigError(f"{_PREFIX}VERIFY = {verify!r} must be yes or no.")
    chosen = environment.get(f"{_PREFIX}CA_FILE")
    if chosen is not None and not Path(chosen).is_file():
        raise ConfigError(f"{_PREFIX}CA_FILE = {chosen}: there is no such file.")
    authorities = chosen or ssl.get_default_verify_paths().cafile or certifi.where()
    return RedfishSettings(
        url, user, password, authorities if verify == "yes" else None, environment.get(f"{_PREFIX}CHASSIS")
    )


def _password(environment: Mapping[str, str]) -> str:
    file = environment.get(f"{_PREFIX}PASSWORD_FILE")
    if file is not None:
        try:
            return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise ConfigError(
                f"{_PREFIX}PASSWORD_FILE = {file} cannot be read.", why=error.strerror or str(error)
            ) from error
    if f"{_PREFIX}PASSWORD" not in environment:
        raise ConfigError("redfish: the password is missing.", fix=_SETTINGS)
    return environment[f"{_PREFIX}PASSWORD"]


class _Session:
    """An authenticated conversation; one request at a time, and a new login after the session has expired.

    The library verifies certificates only where it is given a file of authorities, and repeats a failed
    request ten times unless told not to.
    """

    def __init__(self, settings: RedfishSettings) -> None:
        self._settings = settings
        self._logged_in = False
        try:
            self._client = redfish_client(
                base_url=settings.url, username=settings.user, password=settings.password, cafile=settings.ca_file,
                timeout=TIMEOUT_S, max_retry=0, check_connectivity=False,
            )  # fmt: skip
            self._client.get_root_object()
        except _FAILURES as error:
            raise self._error(error) from error

    def get(self, path: str) -> dict[str, Any]:
        """Return a resource; raises ``NodeError``."""
        try:
            if not self._logged_in:
                self._client.set_session_key(None)
                self._client.login(auth="session")
                self._logged_in = True
            answer = self._client.get(path)
            if answer.status == UNAUTHORIZED:
                self._logged_in = False
            if answer.status != 200:
                raise NodeError(f"Redfish: {path} cannot be read.", why=f"HTTP status {answer.status}")
            document = answer.dict
        except _FAILURES as error:
            raise self._error(error) from error
        if not isinstance(document, dict):
            raise NodeError(f"Redfish: {path} is not a resource.", why="the answer is no JSON object")
        return document

    def close(self) -> None:
        """Log out if logged in."""
        try:
            self._client.logout()
        except _FAILURES:
            return

    def _error(self, error: BaseException) -> NodeError:
        cause = error.__cause__ or error
        host = urlsplit(self._settings.url).netloc
        if isinstance(error, InvalidCredentialsError):
            return NodeError(f"Redfish: {host} refused the login.", why="wrong user or password", fix=_SETTINGS)
        if "CERTIFICATE_VERIFY_FAILED" in str(cause) or isinstance(cause, ssl.SSLError):
            return NodeError(
                f"Redfish: the certificate of {host} cannot be trusted.", why=_short(cause),
                fix=f"name its authority in {_PREFIX}CA_FILE, or accept the risk with {_PREFIX}VERIFY=no",
            )  # fmt: skip
        return NodeError(f"Redfish: {host} does not answer as it should.", why=_short(cause), fix="check the address")


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:200]


def _find_place(session: _Session, wanted: str | None) -> _Place:
    """Find the one chassis whose power is the node's: the one asked for, else the only one that tells."""
    members = session.get(f"{ROOT}Chassis").get("Members") or []
    found = [place for path in map(_link, members) if path for place in _places(session, path, wanted)]
    if not found:
        asked = f"chassis {wanted} has" if wanted else "no chassis has"
        raise NodeError(
            "Redfish: the controller reports no node power.",
            why=f"{asked} EnvironmentMetrics.PowerWatts or PowerControl[].PowerConsumedWatts",
            fix="use another meter",
        )
    whole = [place for place in found if place.chassis_type in _WHOLE_NODE]
    chosen = found if len(found) == 1 else whole
    if len(chosen) != 1:
        names = ", ".join(f"{place.chassis} ({place.chassis_type})" for place in found)
        raise ConfigError(
            "Redfish: which chassis is the node cannot be told.", why=f"power comes from {names}",
            fix=f"choose with {_PREFIX}CHASSIS=ID",
        )  # fmt: skip
    return chosen[0]


_WHOLE_NODE = ("RackMount", "StandAlone", "Blade", "Sled")


def _places(session: _Session, path: str, wanted: str | None) -> Iterator[_Place]:
    """Yield where a chassis tells its power, if it does: EnvironmentMetrics first."""
    chassis = session.get(path)
    name, kind = str(chassis.get("Id") or path.rsplit("/", 1)[-1]), str(chassis.get("ChassisType") or "unknown type")
    if wanted is not None and name != wanted:
        return
    metrics, power = _link(chassis.get("EnvironmentMetrics")), _link(chassis.get("Power"))
    if metrics:
        document = session.get(metrics)
        excerpt = document.get("PowerWatts") or {}
        place = _Place(name, kind, metrics, None, _sensor(session, excerpt))
        if _tells(place, document):
            yield place
            return
    if power:
        document = session.get(power)
        place = _Place(name, kind, power, 0, {}, len(document.get("PowerControl") or []))
        if _tells(place, document):
            yield place


def _tells(place: _Place, document: Mapping[str, Any]) -> bool:
    try:
        place.watts(document)
    except ValueError:
        return False
    return True


def _sensor(session: _Session, excerpt: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the full sensor behind an excerpt: its accuracy and interval; empty where the controller has none."""
    path = excerpt.get("DataSourceUri")
    try:
        return session.get(path) if isinstance(path, str) else {}
    except NodeError:
        return {}


def _accuracy_pct(sensor: Mapping[str, Any]) -> float | None:
    """Return the accuracy in percent that the sensor states (``Accuracy`` is percent of the reading)."""
    value = sensor.get("Accuracy")
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0 else None


def _link(reference: Any) -> str | None:
    path = reference.get("@odata.id") if isinstance(reference, dict) else None
    return path if isinstance(path, str) else None

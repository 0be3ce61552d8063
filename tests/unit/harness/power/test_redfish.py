import json
import shutil
import threading

import pytest

from harness.errors import ConfigError, NodeError
from harness.power import redfish
from harness.power.redfish import open_redfish, redfish_settings
from tests.fakes.redfish_server import PASSWORD, ROOT, USER, all_chassis, chassis, make_certificate, serve

METRICS = {"PowerWatts": {"Reading": 5432.5, "DataSourceUri": f"{ROOT}/Chassis/1U/Sensors/TotalPower"}}
ENVIRONMENT = {"HARNESS_REDFISH_USER": USER, "HARNESS_REDFISH_PASSWORD": PASSWORD}


def _node(**parts):
    return all_chassis(chassis("1U", "RackMount", **parts))


def test_environment_metrics_give_the_watts_of_the_node():
    with serve(_node(metrics=METRICS)) as controller:
        source = open_redfish(controller.url, ENVIRONMENT)
        (sample,) = source.read()
        source.close()
    assert sample.power_w == 5432.5
    assert (source.name, source.boundary, sample.uuid) == ("redfish", "node", "redfish:1U")
    assert source.gain_rel_u is None
    assert any("accuracy" in note and "unknown" in note for note in source.notes)
    assert any("refreshed is unknown" in note for note in source.notes)


def test_power_control_stands_in_where_there_are_no_environment_metrics():
    control = {"PowerControl": [{"PowerConsumedWatts": 2500}, {"PowerConsumedWatts": 300}]}
    with serve(_node(power=control)) as controller:
        source = open_redfish(controller.url, ENVIRONMENT)
        assert source.read()[0].power_w == 2500
        assert any("first of 2 PowerControl" in note for note in source.notes)
        source.close()


def test_environment_metrics_without_a_reading_fall_back_on_power_control():
    with serve(
        _node(metrics={"PowerWatts": {"Reading": None}}, power={"PowerControl": [{"PowerConsumedWatts": 7}]})
    ) as controller:
        source = open_redfish(controller.url, ENVIRONMENT)
        assert source.read()[0].power_w == 7
        source.close()


def test_a_stated_accuracy_becomes_a_rectangular_uncertainty():
    with serve(_node(metrics=METRICS, sensor={"Accuracy": 2.0, "SensingInterval": "PT1S"})) as controller:
        source = open_redfish(controller.url, ENVIRONMENT)
        source.close()
    assert source.gain_rel_u == pytest.approx(0.02 / 3**0.5)
    assert any("PT1S" in note for note in source.notes)


def test_the_whole_chassis_is_chosen_among_its_parts_and_nothing_is_added():
    parts = chassis("HGX", "Module", metrics={"PowerWatts": {"Reading": 4000}})
    with serve(all_chassis(parts, chassis("1U", "RackMount", metrics=METRICS))) as controller:
        source = open_redfish(controller.url, ENVIRONMENT)
        assert source.read()[0].power_w == 5432.5
        source.close()


def test_two_whole_chassis_need_a_choice():
    two = all_chassis(
        chassis("left", "Sled", metrics={"PowerWatts": {"Reading": 1000}}),
        chassis("right", "Sled", metrics={"PowerWatts": {"Reading": 2000}}),
    )
    with serve(two) as controller:
        with pytest.raises(ConfigError, match=r"left \(Sled\), right \(Sled\)"):
            open_redfish(controller.url, ENVIRONMENT)
        assert not controller.sessions  # a refusal logs out too
        source = open_redfish(controller.url, {**ENVIRONMENT, "HARNESS_REDFISH_CHASSIS": "right"})
        assert source.read()[0].power_w == 2000
        source.close()


def test_closing_ends_the_session():
    with serve(_node(metrics=METRICS)) as controller:
        source = open_redfish(controller.url, ENVIRONMENT)
        assert len(controller.sessions) == 1
        source.close()
        assert not controller.sessions


@pytest.mark.parametrize(
    ("reading", "cause"),
    [(None, "None W"), (0, "0 W"), (True, "True W"), ("12", "'12' W"), (-3, "-3 W")],
)
def test_a_reading_that_is_no_power_is_an_error_and_never_zero(reading, cause):
    with serve(_node(metrics=METRICS)) as controller:
        source = open_redfish(controller.url, ENVIRONMENT)
        controller.resources[f"{ROOT}/Chassis/1U/EnvironmentMetrics"] = {"PowerWatts": {"Reading": reading}}
        (sample,) = source.read()
        source.close()
    assert sample.power_w is None
    assert cause in sample.error


def test_an_expired_session_costs_one_reading_and_is_renewed():
    with serve(_node(metrics=METRICS)) as controller:
        source = open_redfish(controller.url, ENVIRONMENT)
        controller.sessions.clear()
        first, second = source.read()[0], source.read()[0]
        source.close()
    assert first.power_w is None
    assert "401" in first.error
    assert second.power_w == 5432.5


def test_a_busy_controller_is_an_error_of_the_reading():
    with serve(_node(metrics=METRICS)) as controller:
        source = open_redfish(controller.url, ENVIRONMENT)
        controller.status = 503
        assert "503" in source.read()[0].error
        controller.status = 200
        source.close()


def test_a_controller_that_is_gone_is_an_error_of_the_reading():
    with serve(_node(metrics=METRICS)) as controller:
        source = open_redfish(controller.url, ENVIRONMENT)
    (sample,) = source.read()
    source.close()
    assert sample.power_w is None
    assert "power_w: " in sample.error


def test_a_wrong_password_is_refused_without_being_shown():
    with (
        serve(_node(metrics=METRICS)) as controller,
        pytest.raises(NodeError, match="wrong user or password") as caught,
    ):
        open_redfish(controller.url, {**ENVIRONMENT, "HARNESS_REDFISH_PASSWORD": "guess-me"})
    assert "guess-me" not in str(caught.value)
    assert controller.logins == 1  # controllers lock accounts after a few


def test_a_controller_without_power_says_so():
    with serve(_node()) as controller, pytest.raises(NodeError, match="no chassis has EnvironmentMetrics"):
        open_redfish(controller.url, ENVIRONMENT)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_certificates_are_verified_unless_turned_off(tmp_path):
    certificate, key = make_certificate(tmp_path)
    with serve(_node(metrics=METRICS), (certificate, key)) as controller:
        with pytest.raises(NodeError, match="cannot be trusted"):
            open_redfish(controller.url, ENVIRONMENT)
        assert controller.logins == 0  # the password was never sent
        trusted = open_redfish(controller.url, {**ENVIRONMENT, "HARNESS_REDFISH_CA_FILE": str(certificate)})
        assert trusted.read()[0].power_w == 5432.5
        trusted.close()
        assert not any("not verified" in note for note in trusted.notes)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_an_unverified_certificate_is_noted(tmp_path):
    with serve(_node(metrics=METRICS), make_certificate(tmp_path)) as controller:
        source = open_redfish(controller.url, {**ENVIRONMENT, "HARNESS_REDFISH_VERIFY": "no"})
        source.close()
    assert any("not verified" in note for note in source.notes)


@pytest.mark.parametrize(
    ("url", "changes", "message"),
    [
        ("", {}, "address of the controller is missing"),
        ("bmc.example", {}, "no URL"),
        ("http://bmc.example", {}, "in the clear"),
        ("https://root:word@bmc.example", {}, "must not carry"),
        ("https://bmc.example", {"HARNESS_REDFISH_USER": ""}, "user is missing"),
        ("https://bmc.example", {"HARNESS_REDFISH_PASSWORD": None}, "password is missing"),
        ("https://bmc.example", {"HARNESS_REDFISH_PASSWORD": ""}, "password is missing"),
        ("https://bmc.example", {"HARNESS_REDFISH_PASSWORD_FILE": "/nowhere"}, "cannot be read"),
        ("https://bmc.example", {"HARNESS_REDFISH_VERIFY": "maybe"}, "must be yes or no"),
        ("https://bmc.example", {"HARNESS_REDFISH_CA_FILE": "/nowhere"}, "no such file"),
    ],
)
def test_settings_that_cannot_work_are_refused(url, changes, message):
    environment = {key: value for key, value in {**ENVIRONMENT, **changes}.items() if value is not None}
    with pytest.raises(ConfigError, match=message):
        redfish_settings(url, environment)


def test_an_empty_variable_is_one_that_is_not_set():
    optional = ("URL", "PASSWORD_FILE", "CA_FILE", "VERIFY", "CHASSIS")
    empty = {f"HARNESS_REDFISH_{name}": "" for name in optional}
    assert redfish_settings("https://bmc.example", ENVIRONMENT | empty) == redfish_settings(
        "https://bmc.example", ENVIRONMENT
    )


def test_the_password_may_come_from_a_file_and_is_in_no_representation(tmp_path):
    file = tmp_path / "word"
    word = "from a file"
    file.write_text(f"{word}\n")
    environment = {"HARNESS_REDFISH_USER": USER, "HARNESS_REDFISH_PASSWORD_FILE": str(file)}
    settings = redfish_settings("https://bmc.example/", environment)
    assert settings.password == word
    assert word not in repr(settings)
    assert settings.ca_file is not None


def test_nothing_a_source_tells_holds_the_password():
    with serve(_node(metrics=METRICS)) as controller:
        source = open_redfish(controller.url, ENVIRONMENT)
        source.close()
    assert PASSWORD not in json.dumps([source.notes, [repr(device) for device in source.devices], repr(source)])


def test_a_silent_controller_is_given_up_after_the_timeout(monkeypatch):
    monkeypatch.setattr(redfish, "TIMEOUT_S", 1.0)
    given_up = threading.Event()
    with serve(_node(metrics=METRICS)) as controller:
        source = open_redfish(controller.url, ENVIRONMENT)
        controller.get = lambda path, token: (200, {"silent": given_up.wait(30)})
        assert "time" in source.read()[0].error.lower()
        given_up.set()
    source.close()

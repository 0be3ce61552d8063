import pytest

from harness.errors import ConfigError, NodeError
from harness.power.hwmon import open_hwmon


def chip(root, folder, name, **files):
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    for file, value in files.items():
        (path / file).write_text(f"{value}\n")
    return path


def test_the_acpi_meter_is_the_node_without_being_asked_for(tmp_path):
    chip(tmp_path, "hwmon0", "coretemp", temp1_input=40000)
    chip(tmp_path, "hwmon1", "nvme", power1_input=5_000_000)
    chip(
        tmp_path, "hwmon2", "power_meter",
        power1_average=2_345_000_000, power1_average_interval=2000, power1_accuracy="95.0%",
    )  # fmt: skip
    source = open_hwmon(folder=tmp_path)
    (sample,) = source.read()
    assert sample.power_w == pytest.approx(2345.0)
    assert sample.energy_j is None
    assert (source.name, source.boundary) == ("hwmon", "node")
    assert source.power_lag_s == 1.0  # half the interval of the average
    assert source.gain_rel_u == pytest.approx(0.05 / 3**0.5)


def test_two_power_supplies_of_one_name_are_two_devices(tmp_path):
    for number in (0, 1):
        chip(tmp_path, f"hwmon{number}", "pmbus", power1_input=(number + 1) * 10**9, power1_label="pin")
    source = open_hwmon("pmbus/pin", tmp_path)
    assert [sample.power_w for sample in source.read()] == [1000.0, 2000.0]
    assert len({device.uuid for device in source.devices}) == 2
    assert source.gain_rel_u is None
    assert any("on the word of who chose" in note for note in source.notes)


def test_a_label_chooses_among_the_channels_of_a_chip(tmp_path):
    chip(
        tmp_path, "hwmon0", "pmbus",
        power1_input=9 * 10**8, power1_label="pin", power2_input=8 * 10**8, power2_label="pout1",
        energy2_input=4_000_000,
    )  # fmt: skip
    (sample,) = open_hwmon("pmbus/pout1", tmp_path).read()
    assert (sample.power_w, sample.energy_j) == (800.0, 4.0)


def supply(root, folder="hwmon0", **files):
    return chip(
        root, folder, "pmbus", power1_input=10**9, power1_label="pin", power2_input=94 * 10**7, power2_label="pout1",
        **files,
    )  # fmt: skip


@pytest.mark.parametrize("choice", ["pmbus", "pmbus/*", "pmbus/p*"])
def test_what_a_supply_draws_is_never_added_to_what_it_delivers(tmp_path, choice):
    supply(tmp_path)
    with pytest.raises(ConfigError, match="same watts") as error:
        open_hwmon(choice, tmp_path)
    assert "pmbus/pin, pmbus/pout1" in error.value.fix


def test_a_chips_name_alone_does_not_add_up_channels_of_which_one_may_be_the_sum(tmp_path):
    chip(
        tmp_path, "hwmon0", "ina3221", power1_input=10**9, power1_label="VDD_IN", power2_input=10**8,
        power2_label="VDD_CPU", power3_input=2 * 10**8, power3_label="VDD_GPU",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="same watts"):
        open_hwmon("ina3221", tmp_path)
    assert [sample.power_w for sample in open_hwmon("ina3221/VDD_[CG]PU", tmp_path).read()] == [100.0, 200.0]


def test_the_inputs_of_several_supplies_are_added_up_by_label(tmp_path):
    for number in (0, 1):
        supply(tmp_path, f"hwmon{number}")
    assert [sample.power_w for sample in open_hwmon("pmbus/pin*", tmp_path).read()] == [1000.0, 1000.0]


def test_without_an_acpi_meter_a_choice_is_needed_and_what_there_is_is_listed(tmp_path):
    chip(tmp_path, "hwmon0", "pmbus", power1_input=10**9, power1_label="pin")
    with pytest.raises(ConfigError, match="pmbus/pin"):
        open_hwmon(folder=tmp_path)
    with pytest.raises(NodeError, match="no hwmon power sensor called other"):
        open_hwmon("other", tmp_path)


def test_a_machine_without_sensors_says_so(tmp_path):
    with pytest.raises(NodeError, match="no hwmon power sensor"):
        open_hwmon(folder=tmp_path)


def test_a_sensor_that_reads_zero_or_nonsense_gives_no_watts(tmp_path):
    path = chip(tmp_path, "hwmon0", "power_meter", power1_input=10**9)
    source = open_hwmon(folder=tmp_path)
    for text, cause in (("0", "0 W"), ("many", "invalid literal")):
        (path / "power1_input").write_text(text)
        (sample,) = source.read()
        assert sample.power_w is None
        assert cause in sample.error


def test_a_sensor_that_does_not_answer_at_the_start_is_refused(tmp_path):
    chip(tmp_path, "hwmon0", "power_meter", power1_input="")
    with pytest.raises(NodeError, match="does not answer"):
        open_hwmon(folder=tmp_path)

from pathlib import Path

import pytest

from harness.errors import NodeError
from harness.power.rapl import open_rapl

RANGE_UJ = 262_143_328_850


def zone(root: Path, folder: str, name: str, energy_uj: int, range_uj: int = RANGE_UJ) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    for file, value in (("name", name), ("energy_uj", energy_uj), ("max_energy_range_uj", range_uj)):
        (path / file).write_text(f"{value}\n")
    return path / "energy_uj"


@pytest.fixture
def tree(tmp_path):
    return {
        "package-0": zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000),
        "core": zone(tmp_path, "intel-rapl:0:0", "core", 5),
        "dram": zone(tmp_path, "intel-rapl:0:1", "dram", 2_000_000),
        "package-1": zone(tmp_path, "intel-rapl:1", "package-1", 3_000_000),
        "psys": zone(tmp_path, "intel-rapl:2", "psys", 9),
        "mmio": zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1_000_000),
    }


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def test_packages_and_dram_are_read_and_what_overlaps_them_is_not(tree, tmp_path):
    source = open_rapl(tmp_path)
    assert [device.uuid for device in source.devices] == ["rapl:package-0", "rapl:package-0/dram", "rapl:package-1"]
    assert [sample.energy_j for sample in source.read()] == [1.0, 2.0, 3.0]
    assert all(sample.power_w is None for sample in source.read())
    assert source.boundary == "cpu_dram"
    assert source.gain_rel_u is None
    assert any("never added to a node" in note for note in source.notes)


def test_a_counter_that_wraps_goes_on_rising(tree, tmp_path):
    clock = Clock()
    tree["package-0"].write_text(str(RANGE_UJ - 4_000_000))
    source = open_rapl(tmp_path, clock)
    before_j = source.read()[0].energy_j
    clock.now_s, _ = 1.0, tree["package-0"].write_text("6000000")
    assert source.read()[0].energy_j - before_j == pytest.approx(10.0, abs=1e-9)
    clock.now_s, _ = 2.0, tree["package-0"].write_text("16000000")
    assert source.read()[0].energy_j - before_j == pytest.approx(20.0, abs=1e-9)


def test_a_counter_that_was_reset_steps_back_instead_of_gaining_a_whole_range(tree, tmp_path):
    clock = Clock()
    tree["package-0"].write_text("100000000000")
    source = open_rapl(tmp_path, clock)
    before_j = source.read()[0].energy_j
    clock.now_s, _ = 1.0, tree["package-0"].write_text("0")
    assert source.read()[0].energy_j < before_j


def test_a_counter_that_cannot_be_read_later_is_an_error_of_that_domain_alone(tree, tmp_path):
    source = open_rapl(tmp_path)
    tree["dram"].unlink()
    package, dram, _ = source.read()
    assert (package.energy_j, package.error) == (1.0, None)
    assert dram.energy_j is None
    assert "No such file" in dram.error


def test_missing_dram_is_noted(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    assert any("no DRAM" in note for note in open_rapl(tmp_path).notes)


def test_a_machine_without_counters_is_told_what_to_load(tmp_path):
    with pytest.raises(NodeError, match="no RAPL counters") as caught:
        open_rapl(tmp_path)
    assert "modprobe" in caught.value.fix


def test_missing_rights_come_with_the_command_that_grants_them(tree, tmp_path, monkeypatch):
    read = Path.read_text

    def refuse(path, *args, **kwargs):
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(NodeError, match="may not be read by this user") as caught:
        open_rapl(tmp_path)
    assert "sudo chmod a+r" in caught.value.fix
    assert "energy_uj" in caught.value.why

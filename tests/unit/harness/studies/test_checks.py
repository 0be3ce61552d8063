import os

import pytest

from harness.errors import ConfigError, StoreError
from harness.studies.checks import check_figure, check_samples, check_writable


@pytest.mark.parametrize("samples", [0, -1, 0.5, 1.5, 1e18, 10**18, float("nan"), float("inf"), -float("inf")])
def test_samples_that_cannot_be_drawn_are_named(samples):
    with pytest.raises(ConfigError, match=r"^samples = .* whole number from 1 to 1e\+12"):
        check_samples(samples)


@pytest.mark.parametrize("samples", [1, 1e6, 10**12])
def test_a_whole_number_of_samples_is_taken_however_it_is_written(samples):
    assert check_samples(samples) == samples
    assert isinstance(check_samples(samples), int)


def test_a_path_that_cannot_be_written_says_why_and_which_option_gave_it(tmp_path):
    for path, why in ((tmp_path, "it is a folder"), (tmp_path / "none" / "file.json", "there is no folder")):
        with pytest.raises(StoreError) as raised:
            check_writable(path, "--out")
        assert raised.value.why.startswith(why)
        assert "--out" in raised.value.fix


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_write_protected_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError) as raised:
        check_writable(tmp_path / "file.json", "--out")
    assert raised.value.why.endswith("is write-protected")


def test_a_new_file_and_one_to_replace_can_be_written_and_are_left_alone(tmp_path):
    there = tmp_path / "there.png"
    there.write_text("kept")
    check_figure(there, "--figure")
    check_figure(tmp_path / "new.svg", "--figure")
    assert there.read_text() == "kept"
    assert not (tmp_path / "new.svg").exists()


def test_a_figure_must_be_named_as_one(tmp_path):
    with pytest.raises(ConfigError, match=r"must end in \.png or \.svg"):
        check_figure(tmp_path / "figure.pdf", "--figure")

import pytest

from harness.power.nvml_gpu import throttle_names


@pytest.mark.parametrize(
    ("mask", "names"),
    [
        (0x0, ()),
        (0x1, ("gpu_idle",)),
        (0x4 | 0x40, ("sw_power_cap", "hw_thermal_slowdown")),
        (0x80 | 0x8, ("hw_slowdown", "hw_power_brake")),
        (1 << 40 | 0x20, ("sw_thermal_slowdown", "bit_0x10000000000")),
    ],
)
def test_clock_event_bits_are_named_and_unknown_ones_keep_their_number(mask, names):
    assert throttle_names(mask) == names

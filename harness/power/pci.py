"""What the PCI bus shows of GPUs, whether or not a driver can use them."""

from __future__ import annotations

from pathlib import Path

PCI_DEVICES = Path("/sys/bus/pci/devices")
NVIDIA_VENDOR, DISPLAY_CLASS = "0x10de", "0x03"


def nvidia_devices_on_bus(bus: Path = PCI_DEVICES) -> int | None:
    """Count NVIDIA's display devices and accelerators on the PCI bus; None where the bus cannot be seen."""
    if not bus.is_dir():
        return None
    return sum(
        _read(device / "vendor") == NVIDIA_VENDOR and _read(device / "class").startswith(DISPLAY_CLASS)
        for device in bus.iterdir()
    )


def _read(path: Path) -> str:
    """Return a file's text, or none for a device that has gone since the bus was listed."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""

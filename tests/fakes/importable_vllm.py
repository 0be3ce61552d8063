"""A stand-in for vLLM and torch that can only be imported: what the doctor asks of them, in no time."""

from __future__ import annotations

from pathlib import Path


def write(folder: Path, *, version: str = "0.32.0", cuda: str | None = "12.9", broken: str = "") -> Path:
    """Write the packages and return what to import from; ``cuda`` None is a build without it."""
    device = "cpu" if cuda is None else "cuda"
    files = {
        "torch/__init__.py": "from . import version\n__version__ = '2.13.0'\n",
        "torch/version.py": f"cuda = {cuda!r}\n",
        "vllm/__init__.py": f"__version__ = {version!r}\n",
        "vllm/platforms.py": f"class current_platform:\n    device_type = {device!r}\n",
        "vllm/entrypoints/__init__.py": "",
        "vllm/entrypoints/openai/__init__.py": "",
        "vllm/entrypoints/openai/api_server.py": f"{broken}\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder

from pathlib import Path

import pytest

from tests.cli.command import stand_in_for_vllm


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a stand-in for vLLM lies that shadows the installed one."""
    return stand_in_for_vllm(tmp_path_factory.mktemp("stand-in"))

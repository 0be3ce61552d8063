"""Import vLLM as a server would and print what it is: ``python -m harness.doctor.vllm_import``."""

from __future__ import annotations

import json
from importlib import import_module


def main() -> None:
    """Print version, torch, the CUDA that torch was built for, and the kind of device vLLM would use, as JSON."""
    import_module("vllm.entrypoints.openai.api_server")
    torch, vllm = import_module("torch"), import_module("vllm")
    platform = import_module("vllm.platforms").current_platform
    print(
        json.dumps(
            {
                "version": vllm.__version__,
                "torch": str(torch.__version__),
                "cuda": torch.version.cuda,
                "device": platform.device_type,
            }
        )
    )


if __name__ == "__main__":
    main()

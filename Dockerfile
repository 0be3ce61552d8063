# The harness inside the vLLM server image, so that the server it launches is the one the image was built for.
#
#   docker build -t inference-energy-harness .
#   docker run --rm --gpus all --ipc host --network host inference-energy-harness doctor
#   docker run --rm --gpus all --ipc host --network host --pid host \
#     -v ~/.cache/huggingface:/root/.cache/huggingface -v "$PWD/results:/work/results" inference-energy-harness
#
# docs/deploy.md says what each option is for and what cannot be known in a container.
FROM vllm/vllm-openai:v0.32.0

WORKDIR /opt/harness
COPY pyproject.toml README.md LICENSE ./
COPY harness harness
COPY estimator estimator
COPY workloads workloads
COPY results results
COPY locks/gpu.txt locks/gpu.txt
# vLLM and torch stay as the image has them; what the harness itself needs comes in the locked versions.
# The image's Python is its own: no package manager's files are broken by installing into it.
RUN PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir --constraint locks/gpu.txt . \
 && python3 -c "import vllm.entrypoints.openai.api_server, harness.cli"

WORKDIR /work
ENTRYPOINT ["harness"]
CMD ["stress", "--multiplier", "15"]

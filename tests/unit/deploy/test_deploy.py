"""The files under deploy/, the Dockerfile and their page: well formed, and in step with the command line."""

import os
import re
import shutil
import signal
import stat
import subprocess
import time

import pytest
import yaml

from tests.paths import ROOT
from tests.unit.deploy.commands import check, commands_in

SBATCH = ROOT / "deploy" / "slurm" / "stress.sbatch"
JOB = ROOT / "deploy" / "kubernetes" / "job.yaml"
PAGE = ROOT / "docs" / "deploy.md"
DOCKERFILE = ROOT / "Dockerfile"

BASH = shutil.which("bash") or ""
needs_bash = pytest.mark.skipif(not BASH, reason="no bash")


@pytest.mark.parametrize(
    ("file", "at_least"), [(SBATCH, 2), (PAGE, 3), (DOCKERFILE, 1)], ids=lambda value: str(value)[-15:]
)
def test_every_command_of_the_harness_in_a_file_is_one_it_takes(file, at_least):
    commands = list(commands_in(file.read_text()))
    assert len(commands) >= at_least
    for words in commands:
        check(words)


def test_an_option_that_does_not_exist_is_seen():
    with pytest.raises(Exception, match="No such option: --multiplyer"):
        check(["stress", "--multiplyer", "15"])


def test_the_words_after_the_slurm_script_are_options_of_stress():
    called = re.findall(r"sbatch deploy/slurm/stress\.sbatch ([^#\n]*)", SBATCH.read_text() + PAGE.read_text())
    assert len(called) == 2
    for words in called:
        check(["stress", *words.split()])


# Slurm --------------------------------------------------------------------------------------------------

STAND_IN = """#!/bin/bash
echo "$@" >> "$SAID"
[ "$1" = doctor ] && exit "${DOCTOR_CODE:-0}"
folder="$3/20260101T000000Z-traditional"
mkdir -p "$folder" && echo started > "$folder/manifest.json"
[ "${HANG:-}" ] || exit 8
trap 'echo interrupted > "$folder/manifest.json"; exit 130' TERM
touch "$SAID.running"
while :; do sleep 0.05; done
"""


@pytest.fixture
def slurm(tmp_path):
    """A node as the script sees it: an environment whose harness is a stand-in, and folders of its own."""
    program = tmp_path / "venv" / "bin" / "harness"
    program.parent.mkdir(parents=True)
    program.write_text(STAND_IN)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "scratch").mkdir()
    return {
        **os.environ,
        "HARNESS_VENV": str(tmp_path / "venv"),
        "HARNESS_RESULTS": str(tmp_path / "shared" / "runs"),
        "SLURM_TMPDIR": str(tmp_path / "scratch"),
        "SLURM_JOB_ID": "7",
        "SAID": str(tmp_path / "said"),
    }


def submit(env, *words):
    return subprocess.Popen(
        [BASH, str(SBATCH), *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def manifest(tmp_path):
    (run,) = (tmp_path / "shared" / "runs").iterdir()
    return (run / "manifest.json").read_text().strip()


@needs_bash
def test_the_slurm_script_is_bash_and_asks_for_one_whole_node():
    assert subprocess.run([BASH, "-n", str(SBATCH)], check=False).returncode == 0
    asked = set(re.findall(r"^#SBATCH (\S+)", SBATCH.read_text(), re.MULTILINE))
    assert {"--nodes=1", "--exclusive", "--gpus-per-node=8", "--signal=B:TERM@600"} <= asked


@needs_bash
@pytest.mark.timeout(30)
def test_results_are_copied_and_the_exit_code_is_that_of_the_run(slurm, tmp_path):
    job = submit(slurm, "--budget", "600")
    _, err = job.communicate(timeout=20)
    assert (job.returncode, manifest(tmp_path)) == (8, "started"), err
    assert list((tmp_path / "scratch").iterdir()) == []
    first, second = (tmp_path / "said").read_text().splitlines()
    assert first == f"doctor --out {second.split()[2]}"
    assert second.startswith(f"stress --out {tmp_path}/scratch/harness-7-")
    assert second.endswith(" --budget 600")


@needs_bash
@pytest.mark.timeout(30)
def test_a_time_limit_ends_the_run_in_order_and_its_results_are_copied_all_the_same(slurm, tmp_path):
    job = submit(slurm | {"HANG": "1"})
    while not (tmp_path / "said.running").exists():
        assert job.poll() is None, job.communicate()
        time.sleep(0.02)
    job.send_signal(signal.SIGTERM)
    _, err = job.communicate(timeout=20)
    assert (job.returncode, manifest(tmp_path)) == (130, "interrupted"), err
    assert "stopping the run" in err


@needs_bash
@pytest.mark.timeout(30)
def test_a_node_that_cannot_run_at_all_ends_the_job_before_the_run(slurm, tmp_path):
    job = submit(slurm | {"DOCTOR_CODE": "3"})
    _, err = job.communicate(timeout=20)
    assert job.returncode == 3, err
    assert (tmp_path / "said").read_text().startswith("doctor --out ")
    assert len((tmp_path / "said").read_text().splitlines()) == 1


@needs_bash
@pytest.mark.timeout(30)
def test_results_that_cannot_be_copied_stay_on_the_node_and_are_named(slurm, tmp_path):
    (tmp_path / "shared").touch()
    job = submit(slurm)
    _, err = job.communicate(timeout=20)
    (kept,) = (tmp_path / "scratch").iterdir()
    assert str(kept) in err
    assert len(list(kept.iterdir())) == 1


# Kubernetes ---------------------------------------------------------------------------------------------


def documents(name):
    return list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / name).read_text()))


@pytest.fixture
def pod():
    return documents("job.yaml")[-1]["spec"]["template"]["spec"]


def test_every_kubernetes_object_names_its_kind_version_and_name():
    for found in documents("job.yaml") + documents("results.yaml"):
        assert {"apiVersion", "kind", "metadata", "spec"} <= found.keys()
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", found["metadata"]["name"])
    assert [found["kind"] for found in documents("job.yaml")] == ["PersistentVolumeClaim"] * 2 + ["Job"]


def test_a_measurement_is_neither_repeated_nor_without_end(pod):
    job = documents("job.yaml")[-1]["spec"]
    assert (job["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    assert job["activeDeadlineSeconds"] > 0
    assert pod["terminationGracePeriodSeconds"] > 60


def test_doctor_and_run_get_the_same_whole_gpus_and_the_commands_exist(pod):
    containers = pod["initContainers"] + pod["containers"]
    assert [container["args"][0] for container in containers] == ["doctor", "stress"]
    for container in containers:
        check(container["args"])
        limits = container["resources"]["limits"]
        assert limits["nvidia.com/gpu"] == container["resources"]["requests"]["nvidia.com/gpu"] == "8"
        assert container["image"] == containers[0]["image"]


def test_every_mounted_volume_exists_and_its_claim_is_made_here(pod):
    claims = {found["metadata"]["name"] for found in documents("job.yaml") if found["kind"] == "PersistentVolumeClaim"}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for container in pod["initContainers"] + pod["containers"]:
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts == {"results": "/work/results", "models": "/models", "shared-memory": "/dev/shm"}  # noqa: S108
        assert mounts.keys() <= volumes.keys()
    assert {volumes[name]["persistentVolumeClaim"]["claimName"] for name in ("results", "models")} == claims
    assert volumes["shared-memory"]["emptyDir"]["medium"] == "Memory"
    (reader,) = documents("results.yaml")
    assert reader["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] in claims


def test_pods_run_as_an_ordinary_user_without_capabilities():
    for spec in (documents("job.yaml")[-1]["spec"]["template"]["spec"], documents("results.yaml")[0]["spec"]):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        for container in spec.get("initContainers", []) + spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_no_secret_stands_in_an_argument_or_as_a_value(pod):
    for container in pod["initContainers"] + pod["containers"]:
        assert not re.search(r"token|password|secret", " ".join(container["args"]), re.IGNORECASE)
        for variable in container["env"]:
            assert not (re.search(r"TOKEN|PASSWORD|SECRET", variable["name"]) and "value" in variable)


# The image ----------------------------------------------------------------------------------------------


def test_the_image_is_of_the_vllm_that_is_pinned():
    pinned = re.search(r"^vllm==(\S+)", (ROOT / "locks" / "gpu.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert f"FROM vllm/vllm-openai:v{pinned[1]}\n" in DOCKERFILE.read_text()


def test_what_the_image_copies_exists_and_is_not_ignored():
    copied = [
        word for line in re.findall(r"^COPY (.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE) for word in line.split()
    ]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored, name
    packages = re.search(r"include = \[(.+)\]", (ROOT / "pyproject.toml").read_text())
    assert packages is not None
    assert {name.strip('*"') for name in packages[1].split(", ")} <= set(copied)
    assert "results/runs" in ignored

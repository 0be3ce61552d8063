"""What CUDA_VISIBLE_DEVICES names, by the rules of the CUDA C++ Programming Guide (CUDA Environment Variables)."""

import pytest

from harness.errors import NodeError
from harness.power.base import DeviceIdentity
from harness.power.visible import visible_gpus

UUIDS = ("GPU-aa11", "GPU-aa22", "GPU-bb11", "GPU-cc11")
ALIKE = tuple(DeviceIdentity(uuid, "H100", index) for index, uuid in enumerate(UUIDS))
UNLIKE = (*ALIKE[:3], DeviceIdentity(UUIDS[3], "L4", 3))


def indices(text, gpus=ALIKE, **more):
    return [gpu.index for gpu in visible_gpus(gpus, {"CUDA_VISIBLE_DEVICES": text, **more})]


def test_without_the_variable_nothing_is_named():
    assert visible_gpus(ALIKE, {}) is None


@pytest.mark.parametrize(
    ("text", "named"),
    [("2,3", [2, 3]), ("3, 1", [1, 3]), ("0", [0]), ("GPU-bb11,GPU-aa22", [1, 2]), ("GPU-b", [2]), ("GPU-c,0", [0, 3])],
)
def test_gpus_are_named_by_index_or_the_beginning_of_a_uuid(text, named):
    assert indices(text) == named


@pytest.mark.parametrize("text", ["", " ", "-1", "NoDevFiles"])
def test_a_variable_that_hides_every_gpu_is_told(text):
    with pytest.raises(NodeError, match="hides every GPU of this node") as error:
        indices(text)
    assert "--gpu" in error.value.fix


@pytest.mark.parametrize(
    ("text", "what"),
    [("4", "no GPU"), ("1,7", "no GPU"), ("GPU-dd", "no GPU"), ("0,-1", "no GPU"), ("x", "no GPU"), ("0,", "no GPU"),
     ("GPU-aa", "not one GPU")],
)  # fmt: skip
def test_a_gpu_that_is_not_here_or_not_one_is_refused_with_those_that_are(text, what):
    with pytest.raises(NodeError, match=f"is {what} of this node") as error:
        indices(text)
    assert "2 (GPU-bb11)" in error.value.why


@pytest.mark.parametrize("text", ["MIG-GPU-aa11/1/0", "0,MIG-1b2c"])
def test_an_instance_is_refused_as_mig_is_elsewhere(text):
    with pytest.raises(NodeError, match="is in MIG mode and cannot be measured"):
        indices(text)


def test_indices_of_unlike_gpus_have_a_meaning_only_in_the_order_of_the_bus():
    with pytest.raises(NodeError, match="cannot be told") as error:
        indices("0,3", UNLIKE)
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in error.value.fix
    assert indices("0,3", UNLIKE, CUDA_DEVICE_ORDER="PCI_BUS_ID") == [0, 3]
    assert indices("GPU-aa11,GPU-c", UNLIKE) == [0, 3]

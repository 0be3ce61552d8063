import pytest

from harness.metrics import catalogue as of
from harness.metrics.families import Families


def test_what_is_not_known_is_not_there():
    families = Families()
    families.add(of.PUE, None, source="measured")
    families.add_mean(of.TTFT, 3, None, server="0")
    assert list(families) == []


def test_samples_of_one_metric_share_its_heading():
    families = Families()
    families.add(of.PHASE, 1, phase="idle")
    families.add(of.PHASE, 0, phase="measure")
    (family,) = families
    assert [sample.labels["phase"] for sample in family.samples] == ["idle", "measure"]


@pytest.mark.parametrize("labels", [{}, {"phase": "idle", "more": "x"}, {"phrase": "idle"}])
def test_labels_are_those_of_the_definition(labels):
    with pytest.raises(ValueError, match="harness_phase has the labels"):
        Families().add(of.PHASE, 1, **labels)

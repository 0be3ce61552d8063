import pytest

from harness.analysis.differences import Difference, differences


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a: 1 became 2"]),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, ["a.b.c: 1 became 2"]),
        ({}, {"a": None}, ["a: 'absent' became None"]),
        ({"a": (1, 2)}, {"a": [1, 2]}, []),
        ({"a": {"b": 1}}, {"a": 3}, ["a: 'absent' became 3", "a.b: 1 became 'absent'"]),
        ({"z": 1, "a": 1}, {"z": 2, "a": 2}, ["a: 1 became 2", "z: 1 became 2"]),
    ],
)
def test_every_key_that_differs_is_shown_with_both_values(before, after, found):
    assert [str(difference) for difference in differences(before, after)] == found


def test_an_ignored_key_hides_what_lies_below_it_and_nothing_else():
    before, after = {"a": {"b": 1}, "ab": 1}, {"a": {"b": 2}, "ab": 2}
    assert differences(before, after, ["a"]) == (Difference("ab", 1, 2),)

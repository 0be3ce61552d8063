import pytest

from estimator.fleet.references import daily_references


def test_the_references_are_those_of_the_paper_and_only_the_searches_grow_with_the_queries():
    of_one, of_ten = daily_references(1e9), daily_references(1e10)
    assert [each.gwh_per_day for each in of_one] == pytest.approx([0.3, 30 * 0.8 * 24 / 1000])
    assert [each.gwh_per_day for each in of_ten] == pytest.approx([3.0, 0.576])


def test_each_reference_states_source_and_boundary():
    assert all(each.source and each.boundary for each in daily_references(1e9))

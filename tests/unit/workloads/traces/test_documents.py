import json

import pytest

from workloads.traces import documents
from workloads.traces.documents import read_items, read_lines
from workloads.traces.stream import WorkloadFileError

ITEMS = [{"a": "]},[{"}, [], "x" * 50, 'quote " and \\ and é and \U0001f600', 12345, {"b": [{"c": None}]}, -1.5e3, True]


@pytest.mark.parametrize("block", [1, 2, 3, 7, 16, 1_000])
@pytest.mark.parametrize("style", [{}, {"indent": 3}, {"separators": (",", ":")}, {"ensure_ascii": False}])
def test_a_list_is_the_same_however_small_the_pieces_it_is_read_in(tmp_path, monkeypatch, block, style):
    monkeypatch.setattr(documents, "READ_CHARACTERS", block)
    path = tmp_path / "items.json"
    path.write_text(" \n" + json.dumps(ITEMS, **style) + "\n ", encoding="utf-8")
    assert list(read_items(path, "a list")) == ITEMS


def test_lines_are_objects_and_blank_ones_are_skipped(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1}\n\n  \n{"a": 2}', encoding="utf-8")
    assert list(read_lines(path, "lines")) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("block", [1, 4, 1_000])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1} {"b": 2}]', "follows item 1"),
        ('[{"a": 1} x, {"b": 2}]', "follows item 1"),
        ('  [{"a": 1}', "follows item 1"),
        ('[{"a": 1},]', "item 2"),
        ('[{"a": 1}, {"b"', "item 2"),
        ('[{"a": 1}] []', "something follows"),
        ("[", "item 1"),
        ("", "does not begin"),
    ],
)
def test_a_list_that_is_broken_is_refused_where_it_breaks(tmp_path, monkeypatch, block, text, message):
    monkeypatch.setattr(documents, "READ_CHARACTERS", block)
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(WorkloadFileError, match=message):
        list(read_items(path, "a list"))


def test_an_item_without_end_is_given_up_before_the_whole_file_is_in_memory(monkeypatch):
    monkeypatch.setattr(documents, "LONGEST_ITEM_CHARACTERS", 100)
    pieces = iter(['["', *["x" * 10] * 1_000])
    with pytest.raises(ValueError, match="item 1"):
        list(documents._Items(pieces).decoded())
    assert len(list(pieces)) > 980

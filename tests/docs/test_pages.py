"""Links, generated pages and lists on the pages, held against the code."""

from __future__ import annotations

import ast
import re

import pytest

from harness.analysis.run import analyse_run
from harness.console.run import result_text
from harness.verify.judged import DOUBTFUL, FATAL
from results.report.reasons import REASONS
from tests.docs import generate
from tests.docs.generate.cli import ENVIRONMENT, commands
from tests.docs.generate.events import EVENTS
from tests.docs.generate.reasons import REMEDIES
from tests.docs.generate.schema import DOCUMENTS
from tests.docs.pages import PAGES, anchors, links
from tests.paths import ROOT
from tests.unit.harness.report_runs import pair

README = (ROOT / "README.md").read_text()
SOURCES = [path for room in ("harness", "estimator", "workloads", "results") for path in (ROOT / room).rglob("*.py")]
TEXTS = {path: path.read_text() for path in SOURCES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in links(page):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_every_page_is_linked_from_one_that_is_read_first():
    first = [ROOT / "README.md", *(ROOT / "docs" / name for name in ("guide.md", "limits.md", "measurement.md"))]
    linked = {(page.parent / target.partition("#")[0]).resolve() for page in first for target in links(page)}
    records = {page for page in PAGES if re.search("make (soak|bench)", page.read_text()[:300])}
    assert set(PAGES) - linked - records - {ROOT / "README.md"} == set()


@pytest.mark.parametrize("name", generate.PAGES)
def test_a_page_made_from_the_code_is_in_step_with_it(name):
    assert (ROOT / "docs" / name).read_text() == generate.PAGES[name](), "make it anew: make docs"


def test_every_command_has_its_place_in_the_readme():
    assert [name for name in commands() if f"harness {name}" not in README] == []


def test_every_reason_code_has_words_a_remedy_and_a_place_in_the_readme():
    assert FATAL | DOUBTFUL == set(REASONS) == set(REMEDIES)
    assert [code for code in REASONS if f"`{code}`" not in README] == []


def test_every_schema_in_the_code_is_on_its_page():
    named = {name for text in TEXTS.values() for name in re.findall(r'"inference-energy/([a-z-]+/\d+)"', text)}
    assert named == set(DOCUMENTS)


def test_every_variable_that_the_code_reads_is_on_the_page_of_the_command_line():
    named = {
        name.replace("{_PREFIX}", "HARNESS_REDFISH_")
        for text in TEXTS.values()
        for name in re.findall(r"(?:HARNESS_|\{_PREFIX\})[A-Z_]*[A-Z]\b", text)
    } - {"HARNESS_REDFISH"}  # fmt: skip
    assert named
    assert named <= set(ENVIRONMENT)
    assert {name for name in ENVIRONMENT if name.startswith("HARNESS_")} == named


def _events():
    """Yield the name and the fields of each call of ``event`` in the code whose name stands there."""
    for text in TEXTS.values():
        for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
            if isinstance(call.func, ast.Attribute) and call.func.attr == "event" and call.args:
                name = call.args[0]
                fields = tuple(each.arg or "..." for each in call.keywords)
                yield (name.value if isinstance(name, ast.Constant) else None), fields


def test_every_event_in_the_code_is_described_with_its_fields():
    found = list(_events())
    named = {name: fields for name, fields in found if name}
    made = {"devices_before_launch", "devices_before", "devices_after"}
    made |= {f"{idle}_{edge}" for idle in ("idle", "bare_idle") for edge in ("start", "end")}
    assert set(named) | made == set(EVENTS)
    assert [fields for name, fields in found if name is None].count(()) == 2, "idle starts and ends in one place"
    for name, fields in named.items():
        assert {field for field in fields if field != "..."} <= set(EVENTS[name][0]), name
        assert ("..." in fields) == ("..." in EVENTS[name][0]), name


def row_names(text):
    """Return the first column of a printed table; a name that goes on in a line without values is joined."""
    names = []
    for line in text.splitlines():
        name, *values = (cell.strip() for cell in line.strip("│").split("│"))
        if "│" in line and name and not any(values):
            names[-1] += f" {name}"
        elif "│" in line and name:
            names.append(name)
    return names


def test_the_rows_of_the_example_are_rows_that_the_code_prints(tmp_path):
    example = README.split("<!-- example table -->")[1].split("<!-- end of example table -->")[0]
    printed = row_names(result_text(analyse_run(pair(tmp_path / "run", simulated=True)), 200))
    source = "".join(path.read_text() for path in (ROOT / "harness" / "console").glob("*.py"))
    rows = row_names(example)
    assert len(rows) > 15
    assert [row for row in rows if row not in printed and f'{row}"' not in source] == []
    assert set(printed) <= set(rows)

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from matplotlib.figure import Figure

from results.report import svg
from results.report.svg import BLUE, VARIABLES, inline_svg
from results.report.view import Drawing

STYLE = (Path(svg.__file__).parent / "style.css").read_text()


def parsed(drawing, *, narrow):
    return ET.fromstring(inline_svg(drawing, narrow=narrow))  # noqa: S314 - our own figure


def drawing(draw, key="some"):
    return Drawing(key, "A title", "What it shows", "", draw)


def line(colour, text="text"):
    def draw(narrow):
        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        axes.plot([1, 2], [3, 4], color=colour)
        axes.set_title(text)
        axes.set_xlim(1.2, 1.8)
        return figure

    return draw


def test_every_colour_of_a_figure_is_a_variable_of_the_page():
    text = inline_svg(drawing(line(BLUE)), narrow=False)
    assert not re.search(r"#[0-9a-f]{6}", text)
    assert "var(--blue)" in text
    assert "var(--muted)" in text


def test_a_colour_without_a_variable_is_refused():
    with pytest.raises(ValueError, match="#123456 has no CSS variable"):
        inline_svg(drawing(line("#123456")), narrow=False)


@pytest.mark.parametrize("variable", sorted(VARIABLES.values()))
def test_light_dark_and_print_all_define_the_variable(variable):
    assert len(re.findall(rf"{variable}: #[0-9a-f]{{6}};", STYLE)) == 3


def test_a_figure_says_its_title_and_what_it_shows():
    root = parsed(drawing(line(BLUE)), narrow=True)
    title, description = root[0], root[1]
    assert (title.text, description.text) == ("A title", "What it shows")
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert root.get("width") is None


def test_ids_of_several_figures_do_not_meet_and_references_still_hit():
    ids, references = [], []
    for key in ("a", "b"):
        for narrow in (True, False):
            root = parsed(drawing(line(BLUE), key), narrow=narrow)
            ids += [element.get("id") for element in root.iter() if element.get("id")]
            values = [value for element in root.iter() for value in element.attrib.values()]
            references += [name for value in values for name in re.findall(r"^(?:url\()?#([^)]+)\)?$", value)]
    assert len(ids) == len(set(ids))
    assert references
    assert set(references) <= set(ids)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "$\\frac{1}{$", "a & b \"c\" id='d'"])
def test_a_text_is_shown_as_it_is(text):
    root = parsed(drawing(line(BLUE, text)), narrow=False)
    assert text in [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert not list(root.iter("{http://www.w3.org/2000/svg}script"))


def test_no_rule_of_a_figure_reaches_the_rest_of_the_page():
    assert "<style" not in inline_svg(drawing(line(BLUE)), narrow=False)

from results.figures.fleet import fleet_figure

PANELS = {
    "low": {"baseline": {"mean": 0.7, "p5": 0.4, "p95": 1.1}, "better": {"mean": 0.3, "p5": 0.2, "p95": 0.5}},
    "high": {"mixed": {"mean": 1.7, "p5": 1.0, "p95": 2.6}},
}
REFERENCES = {"searches": 0.3, "a data centre": 0.576}


def drawn(panels=PANELS, references=REFERENCES):
    return fleet_figure(panels, references, title="a title", boundary="the whole fleet")


def test_each_bar_has_the_height_of_its_mean_and_a_whisker_from_p5_to_p95():
    for axis, bars in zip(drawn().axes, PANELS.values(), strict=True):
        assert [bar.get_height() for bar in axis.patches] == [gwh["mean"] for gwh in bars.values()]
        whiskers = [list(line.get_ydata()) for line in axis.lines[: len(bars)]]
        assert whiskers == [[gwh["p5"], gwh["p95"]] for gwh in bars.values()]
        assert [label.get_text() for label in axis.get_xticklabels()] == list(bars)


def test_the_references_are_lines_on_every_panel_and_named_with_their_value():
    figure = drawn()
    for axis in figure.axes:
        assert [line.get_ydata()[0] for line in axis.lines[-2:]] == [0.3, 0.576]
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["searches: 0.3 GWh", "a data centre: 0.58 GWh"]


def test_the_axis_starts_at_zero_has_its_unit_and_hides_nothing():
    for references in (REFERENCES, {"searches": 9.0, "a data centre": 0.576}):
        figure = drawn(references=references)
        highest = max(2.6, *references.values())
        for axis in figure.axes:
            low, high = axis.get_ylim()
            assert low == 0
            assert high > highest
        assert figure.axes[0].get_ylabel() == "GWh per day"


def test_the_figure_states_title_boundary_and_what_its_whiskers_are():
    figure = drawn()
    assert figure.get_suptitle() == "a title"
    assert "the whole fleet" in figure.get_supxlabel()
    assert "P5 to P95" in figure.get_supxlabel()

"""The report in a real browser: what a reader's Chromium makes of it, in light and dark, wide and on a phone."""

from __future__ import annotations

import pytest

from harness.studies.report import write_report
from tests.browser import webdriver
from tests.unit.harness import report_runs

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        webdriver.DRIVER is None or webdriver.CHROMIUM is None, reason="chromium and chromedriver are not installed"
    ),
]

PHONE = 360
VISIBLE_KINDS = """
return [...document.querySelectorAll('figure svg')].filter(e => e.checkVisibility()).map(e => e.classList[0])"""
SMALLEST_TEXT_PX = """
return Math.min(...[...document.querySelectorAll('svg text')].filter(e => e.checkVisibility()).map(e =>
  parseFloat(getComputedStyle(e).fontSize) * Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b)))"""
OVERLAPS = """
const found = [];
for (const svg of document.querySelectorAll('figure svg')) {
  if (!svg.checkVisibility()) continue;
  const texts = [...svg.querySelectorAll('text')], boxes = texts.map(t => t.getBoundingClientRect());
  for (let i = 0; i < texts.length; i++) for (let j = 0; j < i; j++) {
    const [a, b] = [boxes[i], boxes[j]];
    const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (x > 2 && y > 3) found.push([texts[i].textContent, texts[j].textContent]);
  }
}
return found;"""
CUT_OFF = """
const found = [];
for (const svg of document.querySelectorAll('figure svg')) {
  if (!svg.checkVisibility()) continue;
  const frame = svg.getBoundingClientRect();
  for (const text of svg.querySelectorAll('text')) {
    const box = text.getBoundingClientRect();
    if (box.left < frame.left - 2 || box.right > frame.right + 2 || box.top < frame.top - 2
      || box.bottom > frame.bottom + 2) found.push(text.textContent);
  }
}
return found;"""
UNREACHABLE = """
return [...document.querySelectorAll('a[href], .scroll')].filter(
  e => { e.focus(); return document.activeElement !== e })
  .map(e => e.outerHTML.slice(0, 80))"""
CONTRAST = """
const parse = c => c.match(/[\\d.]+/g).map(Number);
const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
  if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
const found = [];
for (const e of document.querySelectorAll('body *')) {
  const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!own || !e.checkVisibility() || ['title', 'desc', 'style'].includes(e.localName)) continue;
  const style = getComputedStyle(e), ink = e.namespaceURI.endsWith('svg') ? style.fill : style.color;
  const [a, b] = [light(parse(ink)), light(behind(e))];
  const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  if (ratio < 4.5) found.push([ratio, ink, e.textContent.trim().slice(0, 40)]);
}
return found;
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    hostile = report_runs.pair(folder / "hostile", hostile=True, simulated=True)
    faster = report_runs.pair(folder / "faster", simulated=True, rate=800.0)
    swept = report_runs.sweep(folder / "sweep")
    inputs = {"hostile": [hostile], "sweep": [swept], "several": [hostile, faster]}
    for name, folders in inputs.items():
        write_report(folders, folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in inputs}


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with webdriver.browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.mark.parametrize("name", ["hostile", "sweep", "several"])
def test_the_page_asks_for_nothing_and_logs_nothing(tab, pages, name):
    tab.requests(), tab.console()
    tab.open(pages[name])
    outside = [url for url in tab.requests() if not url.startswith("data:")]
    assert outside == [pages[name].as_uri()]
    assert tab.console() == []


@pytest.mark.parametrize("name", ["hostile", "several"])
def test_nothing_from_a_run_folder_is_executed(tab, pages, name):
    tab.open(pages[name])
    harmless = "return [window.pwned === undefined, document.scripts.length, document.images.length]"
    assert tab.ask(harmless) == [True, 0, 0]
    assert report_runs.HOSTILE in tab.ask("return document.querySelector('h1').textContent")


@pytest.mark.parametrize("name", ["hostile", "sweep", "several"])
def test_a_phone_scrolls_tables_but_not_the_page(tab, pages, name):
    tab.open(pages[name], width=PHONE, height=740)
    assert tab.ask("return document.documentElement.scrollWidth") <= PHONE
    assert set(tab.ask(VISIBLE_KINDS)) == {"narrow"}
    assert tab.ask(SMALLEST_TEXT_PX) >= 9


@pytest.mark.parametrize("name", ["hostile", "sweep"])
def test_a_wide_page_shows_the_wide_figures_in_readable_letters(tab, pages, name):
    tab.open(pages[name])
    assert set(tab.ask(VISIBLE_KINDS)) == {"wide"}
    assert tab.ask(SMALLEST_TEXT_PX) >= 11


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["hostile", "sweep", "several"])
def test_every_text_has_enough_contrast(tab, pages, name, scheme):
    tab.open(pages[name], scheme=scheme)
    paper = tab.ask("return getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(21, 22, 26)"}[scheme]
    assert tab.ask(CONTRAST) == []


@pytest.mark.parametrize("width", [1000, PHONE])
@pytest.mark.parametrize("name", ["sweep", "several"])
def test_no_text_of_a_figure_lies_on_another_or_is_cut_off(tab, pages, name, width):
    tab.open(pages[name], width=width)
    assert tab.ask(OVERLAPS) == []
    assert tab.ask(CUT_OFF) == []


def test_the_keyboard_reaches_links_and_scrolling_tables(tab, pages):
    tab.open(pages["sweep"])
    assert tab.ask(UNREACHABLE) == []

"""``/`` in a browser: what it shows, on a desk and on a phone, by day and by night."""

import pytest

SECTIONS = [
    "Chains",
    "The last hour",
    "Coverage",
    "Last events on demo",
    "Endpoints",
    "Snapshots",
    "Jobs",
    "Reorganisations",
]


@pytest.fixture
def page(tab, demo):
    tab.goto(f"{demo}/")
    return tab


def test_it_tells_how_everything_stands(page):
    assert page.run("document.querySelector('h1').innerText")
    assert page.run("[...document.querySelectorAll('h2')].map(title => title.innerText)") == SECTIONS
    assert page.run("document.querySelectorAll('.contract').length") == 7
    bar = "document.querySelector('.contract > summary svg.bar')"
    assert page.run(f"{bar}.getBoundingClientRect().width") > 300
    assert page.run(f"{bar}.querySelector('rect').getBoundingClientRect().height") > 5
    events = "[...document.querySelectorAll('section:nth-of-type(4) tbody tr')].map(row => row.innerText)"
    assert len(page.run(events)) == 8
    assert "requests" in page.run("document.querySelector('.asked').innerText")


def test_a_contract_opens_to_its_events_without_any_script(page):
    page.run("document.querySelector('.contract > summary').click()")
    assert page.run("document.querySelectorAll('.contract[open] li .bar').length") >= 1
    assert page.run("document.querySelector('.contract[open] li .bar').getBoundingClientRect().height") > 5
    assert page.run("document.scripts.length") == 0


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "phone"), [(1100, False), (360, True)])
def test_nothing_is_cut_off_and_everything_can_be_read(tab, demo, dark, width, phone):
    tab.size(width, 740, phone=phone)
    tab.dark(dark)
    tab.goto(f"{demo}/")
    tab.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert tab.run("document.documentElement.scrollWidth") == tab.run("document.documentElement.clientWidth")
    assert tab.run("innerWidth") == width
    assert tab.run(CONTRAST) == []
    assert tab.problems == []
    assert tab.asked == [f"{demo}/"]  # nothing besides, from here or anywhere


#: Texts whose contrast to the page or card they stand on is below 4.5 to 1 (WCAG 2.2, 1.4.3).
CONTRAST = """
(() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => {
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const [r, g, b] = numbers(color).slice(0, 3).map((c) => linear(c / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const below = (element) => {
    const color = getComputedStyle(element).backgroundColor;
    return numbers(color)[3] === 0 && element.parentElement ? below(element.parentElement) : color;
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    if (![...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    const [one, two] = [light(getComputedStyle(element).color), light(below(element))].sort((a, b) => b - a);
    if ((one + 0.05) / (two + 0.05) < 4.5) poor.push(element.innerText);
  }
  return poor;
})()
"""


def test_every_link_of_the_head_leads_somewhere(page, demo):
    links = page.run("[...document.querySelectorAll('nav a')].map(link => link.href)")
    assert f"{demo}/docs" in links
    for link in links:
        page.goto(link)
        assert page.run("document.body.innerText.length") > 20

"""``/docs`` in a browser: all operations, deep links, and trying one."""

import json

import pytest

#: Swagger UI's word on underscores in its own addresses; ours are names of operations, which keep them.
HARMLESS = "Deprecated: escaping deep link whitespace"


def problems(tab):
    return [problem for problem in tab.problems if not problem.startswith(HARMLESS)]


def opened(tab, operation):
    """Waits until an operation is open and drawn; returns the expression that finds it."""
    found = f"document.querySelector('#operations-events-{operation}.is-open')"
    # In one turn of the page's, or it could be blank in between.
    tab.wait(f"{found}?.innerText.includes('limit')")
    return found


def test_every_operation_is_listed(tab, demo):
    tab.size(1100, 40_000)  # of a long list it draws only what can be seen
    tab.goto(f"{demo}/docs")
    tab.wait("document.querySelectorAll('.opblock-tag').length >= 5")
    for tag in tab.run("[...document.querySelectorAll('.opblock-tag')].map(tag => tag.id)"):
        tab.run(f"document.getElementById('{tag}').click()")
        tab.wait(f"document.getElementById('{tag}').dataset.isOpen === 'true'")
    document = json.loads(tab.run("fetch('/openapi.json').then(answer => answer.text())"))
    operations = {operation["operationId"] for path in document["paths"].values() for operation in path.values()}
    assert len(operations) > 30
    tab.wait(f"document.querySelectorAll('.opblock').length === {len(operations)}")
    shown = tab.run("[...document.querySelectorAll('.opblock')].map(block => block.id)")
    assert {name.split("-", 2)[2] for name in shown} == operations
    assert problems(tab) == []


@pytest.mark.parametrize("operation", ["Events", "Daily"])
def test_a_deep_link_shows_what_it_names(tab, demo, operation):
    tab.goto(f"{demo}/docs#/events/{operation}")
    found = opened(tab, operation)
    tab.wait(f"{{ const at = {found}.getBoundingClientRect().top; at > -5 && at < innerHeight / 2 }}")
    assert problems(tab) == []


def test_references_are_followed_by_us_and_all_of_them(tab, demo):
    tab.goto(f"{demo}/docs")
    left = tab.run("""(async () => {
      const whole = await (await fetch("/openapi.json")).json();
      const methods = (path) => Object.keys(whole.paths[path]).map((method) => [path, method]);
      const paths = Object.keys(whole.paths).flatMap(methods);
      const resolve = QuickReferences().fn.resolveSubtree;
      const made = await Promise.all(paths.map((path) => resolve(whole, ["paths", ...path])));
      return made.filter(({ spec }) => !spec.responses || JSON.stringify(spec).includes('"$ref"')).length;
    })()""")
    assert left == 0


def test_another_deep_link_in_the_same_page(tab, demo):
    tab.goto(f"{demo}/docs#/events/Events")
    opened(tab, "Events")
    tab.run("void (location.hash = '#/events/Feed')")
    opened(tab, "Feed")


def test_trying_an_operation_asks_this_server_and_shows_its_answer(tab, demo):
    tab.goto(f"{demo}/docs#/events/Events")
    found = opened(tab, "Events")
    for name, text in (("contract", "coins"), ("event", "Transfer"), ("limit", "2")):
        tab.run(f"{found}.querySelector('tr[data-param-name={name}] input').select()")
        tab.ask("Input.insertText", text=text)
    tab.run("document.activeElement.blur()")
    tab.run(f"{found}.querySelector('button.execute').click()")
    answer = f"{found}.querySelector('.live-responses-table')"
    status = tab.wait(f"{answer}?.querySelector('tbody .response-col_status')?.innerText")
    assert status.split()[0] == "200"
    asked = tab.run(f"{found}.querySelector('.request-url pre').innerText")
    assert asked.startswith(f"{demo}/v1/contracts/coins/events/Transfer?limit=2")
    assert '"block_number"' in tab.wait(f"{answer}.querySelector('pre')?.innerText")
    assert problems(tab) == []
    assert all(url.startswith((f"{demo}/", "data:")) for url in tab.asked)

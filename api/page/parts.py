"""What the sections of the status page are made of."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from api.page.html import Child, Html, h, said


def section(title: str, *children: Child, sql: str | None = None) -> Html:
    """A part of the page, with the SQL that tells the same."""
    shown = h("details", h("summary", "the same in SQL"), h("pre", h("code", sql))) if sql else None
    return h("section", h("h2", title), *children, shown)


def table(heads: Sequence[str], rows: Sequence[Sequence[Child]]) -> Html:
    """A table; on a narrow screen each cell is a line of its own beside its column's name."""
    body = [
        h("tr", [h("td", h("div", cell), data_head=head) for head, cell in zip(heads, row, strict=True)])
        for row in rows
    ]
    return h("table", h("thead", h("tr", [h("th", head, scope="col") for head in heads])), h("tbody", body))


_GOOD: Final = frozenset(("following", "healthy", "done"))
_BAD: Final = frozenset(("halted", "unhealthy", "failed"))


def state(name: str) -> Html:
    """The state of a chain, an endpoint or a job, coloured by what to think of it."""
    level = "good" if name in _GOOD else "bad" if name in _BAD else "partly"
    return h("span", said(name), class_=f"state {level}")


def number(value: int | None) -> str:
    """With groups of three digits."""
    return "unknown" if value is None else f"{value:,}"


def volume(octets: int) -> str:
    """Bytes in their largest unit."""
    for unit, length in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if octets >= length:
            return f"{octets / length:.1f} {unit}"
    return f"{octets} B"


def time(text: str | None) -> Html:
    """A moment, in UTC to the second."""
    if text is None:
        return h("span", "never")
    moment = datetime.fromisoformat(text)
    return h("time", f"{moment:%Y-%m-%d %H:%M:%S} UTC", datetime=text)

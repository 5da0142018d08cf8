"""HTML that cannot be forgotten to be escaped: every text that becomes a part of an element is escaped then.

The page shows what strangers chose (names of tokens, strings in events, messages of nodes). :func:`said` also takes
their power over the lines around them: control characters, changes of the writing direction, endless length.
"""

import unicodedata
from html import escape
from typing import Final, TypeAlias

#: Elements without an end tag (HTML Living Standard, 13.1.2).
_VOID: Final = frozenset(("meta", "link", "rect"))
#: How much of a stranger's text is shown.
MOST_SAID: Final = 60


class Html(str):
    """Text that is HTML already; made by this module alone."""

    __slots__ = ()


Child: TypeAlias = "str | int | list[Html] | None"


def h(tag: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """An element.

    Args:
        tag: its name.
        children: what it holds: elements, lists of them, or anything else, which is escaped; None is left out.
        attributes: an underscore stands for a hyphen, and a trailing one is dropped (``class_``). True is an attribute
            without a value, False and None are none.
    """
    parts = [f"<{tag}"]
    for key, value in attributes.items():
        if value is not None and value is not False:
            shown = key.rstrip("_").replace("_", "-")
            parts.append(f" {shown}" if value is True else f' {shown}="{escape(str(value))}"')
    parts.append(">")
    if tag not in _VOID:
        parts += [_text(child) for child in children]
        parts.append(f"</{tag}>")
    return Html("".join(parts))


def _text(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    return "".join(child) if isinstance(child, list) else escape(str(child))


def style(css: str) -> Html:
    """A style sheet of our own, whose text is not escaped (a browser would not undo it)."""
    return Html(f"<style>{css}</style>")


def said(text: object, most: int = MOST_SAID) -> Html:
    """What a stranger chose, shown so that it is nothing but text."""
    shown = "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c)[0] == "C" else c for c in str(text))
    # Marks pile up above and below a letter without end; no name of a token needs more than a few.
    shown = _without_piles(shown)
    cut = shown if len(shown) <= most else shown[: most - 1] + "…"
    return h("bdi", cut, class_="said")


def _without_piles(text: str, most: int = 2) -> str:
    kept, pile = [], 0
    for character in text:
        pile = pile + 1 if unicodedata.category(character)[0] == "M" else 0
        if pile <= most:
            kept.append(character)
    return "".join(kept)


def document(head: list[Html], body: list[Html]) -> bytes:
    """The whole page."""
    return ("<!doctype html>\n" + h("html", h("head", head), h("body", body), lang="en")).encode()

"""What must not grow: costs at a size that few deployments reach, each with its bar.

A row is a module of this package, found by listing it; its name is the module's. It has one function::

    def measure(server_url: str, *, small: bool) -> Row

which makes what it needs in a database of its own (:func:`benchmarks.measure.database`) and returns what it measured.
``small``: sizes for a test, which tries the way only; the bar is for the full size. A module whose name begins with
``_`` is no row: several rows share it.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: what is measured, in a few words and with its size.
        measured: the figure; the smaller, the better, where ``at_least`` is false.
        bar: what it may be at most, or must be at least.
        unit: of both, such as ``ms`` or ``of a core``.
        at_least: whether more is better.
    """

    name: str
    measured: float
    bar: float
    unit: str
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the figure is on the right side of the bar."""
        return self.measured >= self.bar if self.at_least else self.measured <= self.bar


def names() -> list[str]:
    """The rows there are: the modules of this package."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def measure(name: str, server_url: str, *, small: bool = False) -> Row:
    """Measures one row.

    Args:
        name: of its module.
        server_url: a Postgres where databases may be made.
        small: whether only the way is tried.
    """
    measured: Callable[..., Row] = importlib.import_module(f"{__name__}.{name}").measure
    return measured(server_url, small=small)

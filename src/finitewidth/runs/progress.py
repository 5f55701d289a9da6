"""A bar on stderr with the time left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(visible: bool | str, label: str, total: int, done: int) -> Iterator[Callable[..., None]]:
    """A bar on stderr with the time left; what it yields moves it by one: it takes a label, and another total.

    A text for ``visible`` stands in front.
    """
    if not visible:
        yield lambda label, total=None: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    name = f"{visible}: " if isinstance(visible, str) else ""
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name + label, total=total, completed=done)
        yield lambda label, total=None: bar.update(task, total=total, advance=1, description=name + label)

"""Ready-made studies: each a plan, a table, a figure and what must hold."""

from __future__ import annotations

from finitewidth import checks
from finitewidth.studies import (
    fc_depth,
    fc_width,
    frozen,
    linear_exact,
    local_renormalisation,
    outputs,
    pixel_shuffle,
    trained,
    transfer,
)
from finitewidth.studies.study import Plan, Report, Study, Work, draw, for_people, run, write_page

__all__ = ["STUDIES", "Plan", "Report", "Study", "Work", "draw", "for_people", "run", "study_of", "write_page"]

_MODULES = (fc_width, fc_depth, local_renormalisation, pixel_shuffle, outputs, linear_exact, frozen, transfer, trained)
STUDIES: dict[str, Study] = {module.STUDY.name: module.STUDY for module in _MODULES}


def study_of(name: str) -> Study:
    """The study of a name; raises InputError with the nearest known one."""
    return STUDIES[checks.choice("study", name, STUDIES)]

"""Ready-made studies: each a plan, a table, a figure and what must hold."""

from __future__ import annotations

from finitewidth import checks
from finitewidth.studies import fully_connected, local_renormalisation, transfer
from finitewidth.studies.study import Plan, Report, Study, Work, run

__all__ = ["STUDIES", "Plan", "Report", "Study", "Work", "run", "study_of"]

_MODULES = (fully_connected, local_renormalisation, transfer)
STUDIES: dict[str, Study] = {module.STUDY.name: module.STUDY for module in _MODULES}


def study_of(name: str) -> Study:
    """The study of a name; raises InputError with the nearest known one."""
    return STUDIES[checks.choice("study", name, STUDIES)]

"""Ready-made studies: each a plan, a table, a figure and what must hold."""

from __future__ import annotations

from finitewidth.studies.presentation import draw, for_people, write_page
from finitewidth.studies.registry import STUDIES, study_of
from finitewidth.studies.study import Plan, Report, Study, Work, run

__all__ = ["STUDIES", "Plan", "Report", "Study", "Work", "draw", "for_people", "run", "study_of", "write_page"]

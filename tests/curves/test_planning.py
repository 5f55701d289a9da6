"""Which widths are sampled: what helps most, a second, within the time that there is."""

from __future__ import annotations

import math

import numpy as np

from finitewidth.curves.refinement import planned

INDEPENDENT = np.diag([0.04, 0.04])
ALIKE = np.array([[0.04, 0.0399], [0.0399, 0.04]])
ERRORS = [[0.01, 0.005]] * 2


def test_nothing_is_sampled_where_all_is_known():
    assert planned(INDEPENDENT, 0.3, ERRORS, [1.0, 1.0], math.inf) == []


def test_one_sample_serves_widths_that_move_together():
    assert planned(ALIKE, 0.03, ERRORS, [1.0, 1.0], math.inf) == [0]
    assert sorted(planned(INDEPENDENT, 0.03, ERRORS, [1.0, 1.0], math.inf)) == [0, 1]


def test_the_cheaper_width_is_sampled_where_both_say_the_same():
    assert planned(ALIKE, 0.03, ERRORS, [5.0, 1.0], math.inf) == [1]


def test_no_more_time_than_there_is():
    assert planned(INDEPENDENT, 0.03, ERRORS, [5.0, 2.0], 3.0) == [1]
    assert planned(INDEPENDENT, 0.03, ERRORS, [5.0, 2.0], 1.0) == []


def test_a_width_is_sampled_again_until_it_is_known_well_enough_or_nothing_is_left():
    assert planned(INDEPENDENT[:1, :1], 0.007, ERRORS[:1], [1.0], math.inf) == [0, 0]
    assert planned(INDEPENDENT[:1, :1], 0.001, ERRORS[:1], [1.0], math.inf) == [0, 0]


def test_what_others_cannot_tell_is_given_up():
    """The first cannot be sampled: the second tells nothing of it, or enough."""
    assert planned(INDEPENDENT, 0.03, [[], [0.01, 0.005]], [1.0, 1.0], math.inf) == [1]
    assert planned(ALIKE, 0.03, [[], [0.01, 0.005]], [1.0, 1.0], math.inf) == [1]
    assert planned(INDEPENDENT, 0.03, [[], []], [1.0, 1.0], math.inf) == []

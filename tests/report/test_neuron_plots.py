"""Plots of learned features draw what they are given."""

from __future__ import annotations

import numpy as np
import pytest

from finitewidth.checks.exceptions import InputError
from finitewidth.theory.learned import LearnedFeatures

pytest.importorskip("matplotlib")
from finitewidth.report import neuron_plots


@pytest.fixture
def learned(rng):
    matrix = np.eye(16)
    matrix[:4, :4] += 2.0
    readouts = rng.standard_normal((4000, 1))
    readouts[:200] *= 10.0
    return LearnedFeatures(matrix, np.eye(5), readouts, (4, 4))


def without_readouts(learned):
    return LearnedFeatures(learned.weight_covariance, learned.hidden_kernel, None, learned.input_shape)


def test_receptive_fields(learned):
    axes = neuron_plots.receptive_fields(learned)
    assert [ax.get_title("left") for ax in axes] == ["eigenvalue 9.00", "eigenvalue 1.00", "eigenvalue 1.00"]
    shown = np.asarray(axes[0].images[0].get_array())
    np.testing.assert_allclose(shown.ravel()[:4], 0.5)
    np.testing.assert_allclose(shown.ravel()[4:], 0.0, atol=1e-12)


def test_spectrum_has_one_series_for_each(learned):
    ax = neuron_plots.weight_spectrum({"theory": learned, "samples": without_readouts(learned)})
    lines = [line for line in ax.get_lines() if line.get_label() in ("theory", "samples")]
    assert len(lines) == 2
    assert lines[0].get_ydata()[0] == pytest.approx(9.0)


def test_law_of_the_readouts(learned):
    ax = neuron_plots.readout_law(learned)
    assert 0.03 < learned.specialised < 0.06
    assert "specialised" in ax.get_title("left")
    gaussian = LearnedFeatures(np.eye(4), np.eye(4), np.random.default_rng(0).standard_normal((40_000, 1)), (4,))
    assert gaussian.specialised == pytest.approx(0.0027, abs=0.001)


def test_figure_of_both(learned):
    figure = neuron_plots.features_figure(learned, without_readouts(learned))
    assert len(figure.axes) == 6
    assert len(neuron_plots.features_figure(learned).axes) == 4


def test_bad_input(learned):
    with pytest.raises(InputError, match="readouts"):
        neuron_plots.readout_law(without_readouts(learned))
    with pytest.raises(InputError, match="no features"):
        neuron_plots.weight_spectrum({})

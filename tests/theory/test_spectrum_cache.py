"""Spectra that somebody keeps."""

from __future__ import annotations

import numpy as np
import pytest

import finitewidth as fw
from finitewidth.linalg import Spectrum
from finitewidth.theory.scaled import KernelSpectrum, unit_network
from finitewidth.theory.spectrum import keeping

ONE = fw.FullyConnected(widths=(9,))


def test_spectra_come_from_the_keeper_while_it_is_there(train):
    asked = []

    def keeper(network, x, compute):
        asked.append(network)
        found = compute(x)
        return Spectrum(2.0 * found.values, found.vectors)

    plain = KernelSpectrum.of(ONE, train).spectrum.values
    with keeping(keeper):
        doubled = KernelSpectrum.of(ONE, train).spectrum.values
        with keeping(lambda network, x, compute: Spectrum(np.zeros(12), np.eye(12))):
            assert (KernelSpectrum.of(ONE, train).spectrum.values == 0.0).all()
        KernelSpectrum.of(ONE, train)
    np.testing.assert_allclose(doubled, 2.0 * plain)
    assert asked == [unit_network(ONE)] * 2
    np.testing.assert_array_equal(KernelSpectrum.of(ONE, train).spectrum.values, plain)
    with pytest.raises(ZeroDivisionError), keeping(keeper):
        raise ZeroDivisionError
    KernelSpectrum.of(ONE, train)
    assert len(asked) == 2

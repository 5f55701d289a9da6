"""The extra `data`: MNIST and a folder of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import finitewidth as fw

train, test = fw.data.mnist(classes=(0, 1), n_train=50, n_test=50, side=7)
assert train.x.shape == (50, 7, 7)
rng = np.random.default_rng(0)
for label in ("cats", "dogs"):
    Path("pictures", label).mkdir(parents=True)
    for i in range(4):
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(Path("pictures", label, f"{i}.png"))
train, test = fw.data.image_folder("pictures", n_train=4)
assert train.classes == ("cats", "dogs")

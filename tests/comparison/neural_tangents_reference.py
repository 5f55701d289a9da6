"""Write ``stacks.json`` anew: kernels of stacks of layers by neural-tangents, the independent implementation.

It does not import on a current JAX, so it wants an environment of its own; the file was written with

    pip install neural-tangents==0.6.5 jax==0.4.30 jaxlib==0.4.30 'numpy<2' 'scipy<1.13'
    python tests/comparison/neural_tangents_reference.py
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import jax
import neural_tangents.stax as stax
import numpy as np

jax.config.update("jax_enable_x64", True)
warnings.simplefilter("ignore")
FILE = Path(__file__).with_name("stacks.json")
PLAIN = {
    "erf": stax.Erf(),
    "relu": stax.Relu(),
    "gelu": stax.Gelu(),
    "leaky_relu": stax.LeakyRelu(0.01),
    "flatten": stax.Flatten(),
    "global_average_pool": stax.GlobalAvgPool(),
    "layer_norm": stax.LayerNorm(),
}


def deviation(precision):
    return precision**-0.5 if precision else None


def padding(name):
    return {"none": "VALID", "same": "SAME"}[name]


def layer(item):
    if isinstance(item, str):
        return PLAIN[item]
    ((name, s),) = item.items()
    w, b = (
        deviation(s.get("weight_precision", 1.0)),
        deviation(s.get("offset_precision")) if name != "residual" else None,
    )
    if name in ("dense", "dense_per_token"):
        return stax.Dense(1, w, b)
    if name in ("conv", "locally_connected"):
        kind = stax.Conv if name == "conv" else stax.ConvLocal
        return kind(1, tuple(s["patch"]), tuple(s["stride"]), padding(s["padding"]), w, b)
    if name == "average_pool":
        return stax.AvgPool(tuple(s["patch"]), tuple(s["stride"]), padding(s["padding"]))
    if name == "layer_norm":
        return stax.LayerNorm(eps=s["epsilon"])
    if name == "self_attention":
        return stax.GlobalSelfAttention(1, 1, 1, 1, s["mechanism"] == "softmax", w, w, w, w, b, s["mechanism"].upper())
    assert name == "residual"
    shortcut = stax.serial(*map(layer, s["shortcut"])) if s["shortcut"] else stax.Identity()
    branch = stax.serial(*map(layer, s["branch"]))
    return stax.serial(stax.FanOut(2), stax.parallel(branch, shortcut), stax.FanInSum())


def main():
    cases = json.loads(FILE.read_text())
    for case in cases.values():
        rng = np.random.default_rng(3)
        x1, x2 = rng.standard_normal((3, *case["point_shape"])), rng.standard_normal((2, *case["point_shape"]))
        kernels = stax.serial(*map(layer, case["layers"]))[2](x1, x2, ("nngp", "ntk"))
        case["nngp"], case["ntk"] = np.array(kernels.nngp).tolist(), np.array(kernels.ntk).tolist()
    FILE.write_text(json.dumps(cases, indent=1))


if __name__ == "__main__":
    main()

"""Formulas as MathML, which every current browser shows: no script, nothing loaded from elsewhere."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

logger = logging.getLogger(__name__)


# Bars of a norm keep their size; docutils does not say so, and browsers stretch them to the tallest neighbour.
BARS = re.compile(r"<mo(?![^>]*stretchy)([^>]*)>([|∣‖∥])</mo>")


def _mathml(node: nodes.Node, block: bool) -> str:
    try:
        return BARS.sub(r'<mo stretchy="false"\1>\2</mo>', tex2mathml(node.astext(), as_block=block))
    except MathError as error:
        logger.warning("formula: %s", error, location=node)
        return ""


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(_mathml(node, False))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    self.body.append(f'<div class="formula">{_mathml(node, True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True}

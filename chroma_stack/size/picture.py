"""Draws how much memory vectors need, and the instance types that have it, as steps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from chroma_stack.size.answer import Question
from chroma_stack.size.instances import InstanceType, worth_it
from chroma_stack.size.model import GIB, available, gib_by_chromas_rule

NEED, TYPES, RULE = "#1f5fa8", "#c2571a", "#888888"
RANGE, POINTS = 16, 160
"""How many times fewer and more vectors than now are drawn, and in how many points."""


def draw(file: Path, question: Question, types: Sequence[InstanceType]) -> None:
    """Write the picture as PNG.

    :param file: where.
    :param question: what is needed now, which the picture is drawn around.
    :param types: all that there are.
    """
    grown = [question.times(RANGE ** (2 * it / POINTS - 1)) for it in range(POINTS + 1)]
    vectors = [it.vectors for it in grown]
    needed = [it.writing() / GIB for it in grown]
    figure = Figure(figsize=(9, 6), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.plot(vectors, needed, color=NEED, linewidth=2.5, label="needed, while records are added")
    by_rule = [gib_by_chromas_rule(it.collections) - 1 for it in grown]
    axes.plot(vectors, by_rule, color=RULE, linestyle="--", label="by the rule of Chroma's makers")
    names: dict[int, list[str]] = {}
    for it in sorted(worth_it(types), key=lambda it: it.architecture, reverse=True):
        names.setdefault(it.gib, []).append(it.name)
    levels = [(available(gib) / GIB, "\n".join(names[gib])) for gib in sorted(names)]
    _steps(axes, vectors, needed, levels)
    axes.plot([question.vectors], [question.writing() / GIB], "o", color=NEED, markersize=9)
    axes.annotate(
        f"{_short(question.vectors)}: {question.writing() / GIB:.3g} GiB",
        (question.vectors, question.writing() / GIB),
        xytext=(10, -14),
        textcoords="offset points",
        color=NEED,
        fontweight="bold",
    )
    dimensions = " and ".join(
        f"{it:,}" for it in sorted({i.dimensions for i in question.collections})
    )
    axes.set(
        xscale="log",
        yscale="log",
        xlim=(vectors[0], vectors[-1]),
        ylim=(needed[0] / 2, needed[-1] * 4),
        xlabel=f"vectors of {dimensions} dimensions",
        ylabel="memory for Chroma, GiB",
        title="Memory that vectors need, and instance types that have it",
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: _short(count)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda gib, _: f"{gib:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(which="major", color="#e4e4e4")
    axes.set_axisbelow(True)
    axes.legend(loc="lower right", framealpha=1, edgecolor="white")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    file.write_bytes(drawn.getvalue())


def _steps(
    axes: Axes,
    vectors: Sequence[int],
    needed: Sequence[float],
    levels: Sequence[tuple[float, str]],
) -> None:
    """A step for each level: from the vectors that need more than the one below to those that it is
    enough for."""
    reached: list[float] = []
    for need in needed:
        enough = [level for level, _ in levels if level >= need]
        reached.append(min(enough, default=float("nan")))
    axes.plot(
        vectors,
        reached,
        color=TYPES,
        linewidth=1.5,
        drawstyle="steps-pre",
        label="the smallest instance types have this, before writes are refused",
    )
    for level, names in levels:
        # The name of a step that has hardly begun at the edge would stand on its neighbour's.
        if level in reached[: -POINTS // 40]:
            first, last = reached.index(level), len(reached) - 1 - reached[::-1].index(level)
            beside_edge = first > 0.9 * POINTS
            axes.annotate(
                names,
                (vectors[last if beside_edge else first], level),
                xytext=(-4 if beside_edge else 4, 4),
                textcoords="offset points",
                horizontalalignment="right" if beside_edge else "left",
                color=TYPES,
                fontsize=8.5,
            )


def _short(count: float) -> str:
    for size, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g}{name}"
    return f"{count:g}"

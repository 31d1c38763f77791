"""The results of measures, as a table and as a plot."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil


class Result(NamedTuple):
    """A figure of the receiver, and its ratio to another one of the same run or to a goal."""

    measure: str
    case: str
    figure: str
    """The receiver's figure, with its unit; depends on the machine."""
    ratio: float
    to: str
    """Name of the figure that the ratio refers to."""
    goal: float | None = None
    less_is_better: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None if there is none."""
        if self.goal is None:
            return None
        return self.ratio <= self.goal if self.less_is_better else self.ratio >= self.goal


def table(results: Sequence[Result]) -> str:
    """Return a Markdown table, with the machine that the results were measured on."""
    lines = [
        "| measure | case | figure | ratio | goal |",
        "| --- | --- | --- | --- | --- |",
    ]
    for result in results:
        sign = "≤" if result.less_is_better else "≥"
        mark = {None: "", True: " reached", False: " missed"}[result.reached]
        goal = "" if result.goal is None else f"{sign} {result.goal:g}{mark}"
        lines.append(
            f"| {result.measure} | {result.case} | {result.figure} "
            f"| {result.ratio:.2f} × {result.to} | {goal} |"
        )
    cores, gigabytes = psutil.cpu_count(), psutil.virtual_memory().total / 2**30
    return "\n".join(
        [
            *lines,
            "",
            f"Measured on {cores} cores, {gigabytes:.0f} GiB, Python {platform.python_version()}, "
            "with the load generator and the database on the same cores.",
            "",
        ]
    )


def plot(results: Sequence[Result], path: Path) -> None:
    """Plot each ratio as a bar, with a mark at its goal; the file extension sets the format."""
    from matplotlib.figure import Figure  # noqa: PLC0415  takes a second, only for plots

    figure = Figure(figsize=(10, 0.28 * len(results) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(results))
    colors = [
        {None: "0.6", True: "tab:green", False: "tab:orange"}[result.reached] for result in results
    ]
    axes.barh(places, [result.ratio for result in results], color=colors)
    for place, result in enumerate(results):
        if result.goal is not None:
            axes.plot([result.goal, result.goal], [place - 0.45, place + 0.45], color="black")
    labels = [f"{result.measure}: {result.case} (× {result.to})" for result in results]
    axes.set_yticks(places, labels, fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel("ratio; the line is the goal")
    figure.savefig(path)

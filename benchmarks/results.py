"""What a measurement gives, as a table and as a plot."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil


class Result(NamedTuple):
    """One figure beside another of the same run."""

    measure: str
    case: str
    figure: str
    """The receiver's own, with its unit; it depends on the machine."""
    ratio: float
    to: str
    """What the ratio compares with."""
    goal: float | None = None
    less_is_better: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the goal is; None without one."""
        if self.goal is None:
            return None
        return self.ratio <= self.goal if self.less_is_better else self.ratio >= self.goal


def table(results: Sequence[Result]) -> str:
    """A Markdown table, and what it was measured on."""
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
    """A bar for each ratio, its goal as a mark; the file's ending says the format."""
    from matplotlib.figure import Figure  # noqa: PLC0415  takes a second, and only here

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

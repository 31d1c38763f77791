"""Inject faults for a given time, and check that no row was lost or duplicated.

    python -m tests.faults --seed 7 --minutes 10 [--replicas 2] [--citus]

A load runs all the time: scrapes of applications whose clocks jump, mostly with the two samples of
a pair in different requests, some samples much later; requests that are resent after their
acknowledgement, sent twice at the same time, or cut off. Meanwhile random faults follow one
another, sometimes several at once. At the end, everything must be acknowledged, and the rows must
be exactly the pairs that were sent. The report is a Markdown table; the exit code is 0 on success
and 1 on failure. The seed determines the faults and the requests, but not the timing of the
processes: the same seed gives a similar run, not an identical one.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.faults.harness import (
    CLUSTER_FAULTS,
    RECEIVER_FAULTS,
    SERVER_FAULTS,
    SESSION_FAULTS,
    Fault,
    NotHereError,
    World,
    world,
)
from tests.faults.load import Verdict
from tests.faults.nodes import Cluster
from tests.faults.processes import Server

KINDS = (RECEIVER_FAULTS, SERVER_FAULTS, SESSION_FAULTS)
KINDS_OF_CLUSTER = (*KINDS, CLUSTER_FAULTS)


class Run:
    """The faults injected into a world, and their results."""

    def __init__(self, stage: World) -> None:
        self._stage = stage
        self._kinds = KINDS_OF_CLUSTER if stage.server.workers else KINDS
        self.faults: Counter[str] = Counter()

    async def harm(self, seconds: float) -> None:
        """Inject one fault after another, sometimes one of each kind at once."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            kinds = self._stage.chance.sample(
                self._kinds, self._stage.chance.choice((1, 1, 1, 2, 3))
            )
            chosen = [self._stage.chance.choice(kind) for kind in kinds]
            sys.stderr.write(f"{', '.join(fault.__name__ for fault in chosen)}\n")
            async with asyncio.TaskGroup() as tasks:
                for fault in chosen:
                    tasks.create_task(self._bring_about(fault))

    async def _bring_about(self, fault: Fault) -> None:
        try:
            await fault(self._stage)
        except NotHereError:
            self.faults[f"{fault.__name__} (not possible here)"] += 1
        else:
            self.faults[fault.__name__] += 1


def table(title: str, values: Mapping[str, object]) -> str:
    lines = "".join(f"| {name} | {value} |\n" for name, value in values.items())
    return f"| {title} | |\n| --- | ---: |\n{lines}\n"


def report(
    run: Run, sent: Mapping[str, int], verdict: Verdict, settings: Mapping[str, object]
) -> str:
    return (
        table("run", settings)
        + table("faults injected", dict(sorted(run.faults.items())))
        + table("requests", sent)
        + table("verdict", verdict._asdict())
    )


async def go(server: Server, arguments: argparse.Namespace) -> Verdict:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        async with world(
            server, Path(directory), seed=arguments.seed, count=arguments.replicas
        ) as stage:
            run = Run(stage)
            async with stage.sender.sending():
                await stage.sender.more()
                await run.harm(60 * arguments.minutes)
            verdict = await stage.verdict()
        settings = {
            "seed": arguments.seed,
            "replicas": arguments.replicas,
            "seconds": round(time.monotonic() - began),
        }
        sys.stdout.write(report(run, stage.sender.counts, verdict, settings))
    return verdict


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument(
        "--citus",
        action="store_true",
        help="on a coordinator and two workers, from installed programs",
    )
    arguments = parser.parse_args()
    with Cluster() if arguments.citus else Server() as server:
        try:
            return 0 if asyncio.run(go(server, arguments)).good else 1
        except Exception:  # noqa: BLE001  whatever it is, it is a failure of the run
            traceback.print_exc()
            sys.stderr.write(f"the run with the seed {arguments.seed} failed\n")
            return 1


if __name__ == "__main__":
    sys.exit(main())

"""Generates the Python code for `proto/*.proto`; run it as `python -m receiver.protocol.generate`.

With `--check` it writes nothing, and fails if the committed code is out of date.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

PROTO = Path(__file__).parents[2] / "proto"
GENERATED = Path(__file__).parent / "generated"


def compile_messages(target: Path) -> None:
    """Compile every message definition into `target`.

    Raises:
        SystemExit: protoc rejected a definition.
    """
    from grpc_tools import protoc  # noqa: PLC0415  only developers have it

    sources = sorted(map(str, PROTO.glob("*.proto")))
    options = [f"-I{PROTO}", f"--python_out={target}", f"--pyi_out={target}"]
    if status := protoc.main(["protoc", *options, *sources]):
        raise SystemExit(status)


def stale_files() -> list[str]:
    """Return the names of generated files that do not match the current definitions."""
    with tempfile.TemporaryDirectory() as directory:
        compile_messages(Path(directory))
        fresh = {path.name: path.read_text() for path in Path(directory).iterdir()}
    committed = {path.name: path.read_text() for path in GENERATED.glob("*_pb2.py*")}
    names = fresh.keys() | committed.keys()
    return sorted(name for name in names if fresh.get(name) != committed.get(name))


if __name__ == "__main__":
    if "--check" not in sys.argv:
        compile_messages(GENERATED)
    elif stale := stale_files():
        raise SystemExit(f"not current, run python -m receiver.protocol.generate: {stale}")

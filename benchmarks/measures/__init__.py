"""The measurements, each beside its limit or peer."""

from typing import Final

from benchmarks.measures.filtering import decode, firehose
from benchmarks.measures.storing import growth, ingest, split
from benchmarks.measures.watching import latency, memory, visible

MEASURES: Final = {
    "decode": decode,
    "ingest": ingest,
    "split": split,
    "firehose": firehose,
    "latency": latency,
    "visible": visible,
    "memory": memory,
    "growth": growth,
}

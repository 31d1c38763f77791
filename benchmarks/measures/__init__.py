"""The measurements, each beside its limit or peer."""

from typing import Final

from benchmarks.measures.filtering import decode, decode_rolling, firehose
from benchmarks.measures.storing import growth, ingest, split
from benchmarks.measures.watching import latency, memory, visible

MEASURES: Final = {
    "decode": decode,
    "rolling": decode_rolling,
    "ingest": ingest,
    "split": split,
    "firehose": firehose,
    "latency": latency,
    "visible": visible,
    "memory": memory,
    "growth": growth,
}

"""The measures; each compares the receiver with a limit, a peer or a goal."""

from typing import Final

from benchmarks.measures.beside import latency_beside
from benchmarks.measures.filtering import (
    decode,
    decode_rolling,
    firehose,
    firehose_rolling,
)
from benchmarks.measures.reading import reading, reading_beside
from benchmarks.measures.storing import growth, ingest, split, widths
from benchmarks.measures.watching import latency, memory, visible

MEASURES: Final = {
    "decode": decode,
    "decode-rolling": decode_rolling,
    "ingest": ingest,
    "split": split,
    "widths": widths,
    "firehose": firehose,
    "firehose-rolling": firehose_rolling,
    "latency": latency,
    "latency-beside": latency_beside,
    "visible": visible,
    "memory": memory,
    "growth": growth,
    "read": reading,
    "read-beside": reading_beside,
}

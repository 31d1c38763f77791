"""Series are cached while in use, in bounded memory; a label set is one source."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Mapping
from sys import getsizeof
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.errors import TooLargeError
from receiver.protocol.limits import InvalidSeriesError, Limits
from receiver.protocol.series import (
    FILTERED,
    Filtered,
    SeriesCache,
    check_labels,
    join,
)
from receiver.protocol.tally import SAMPLE_SIZE, Tally, for_each_table
from receiver.rows.columns import DOUBLE
from receiver.rows.model import Series, Source
from receiver.rows.tables import Catalogue, Column, LabelColumn, Table
from tests import random_rows, strategies
from tests.meanings import KEPT, SHARING
from tests.messages import NOW
from tests.random_rows import Point, feeds, telling

STATUS = "app_status"
OCR = "ocr_value"


def add(cache: SeriesCache, labels: Mapping[str, str]) -> Series | Filtered:
    return cache.add(key_of(labels), labels.items())


def key_of(labels: Mapping[str, str]) -> bytes:
    return repr(list(labels.items())).encode()


def source(cache: SeriesCache, labels: Mapping[str, str], name: str = STATUS) -> Source:
    found = add(cache, {"__name__": name, **labels})
    assert found is not FILTERED
    return found.source


def use(cache: SeriesCache, number: int) -> bool:
    """Look up a series and add it if it is new; return whether it was known."""
    key = b"%d" % number
    if cache.find(key) is not None:
        return True
    cache.add(key, [("__name__", STATUS), ("n", str(number))])
    return False


@pytest.mark.parametrize(
    ("name", "column"), [(STATUS, "app_status"), (OCR, "ocr_value"), ("up", None)]
)
def test_a_series_is_found_as_it_was_added(name: str, column: str | None) -> None:
    cache = SeriesCache(KEPT, 2**20)
    assert cache.find(b"key") is None
    added = cache.add(b"key", [("__name__", name), ("job", "x")])
    assert cache.find(b"key") is added
    if column is None:
        assert added is FILTERED
    else:
        assert added is not FILTERED
        assert added.column.name == column
        assert added.source.table.columns[added.column.slot] is added.column
        assert added.others == ()
        assert added.source.labels == (("job", "x"),)
        assert added.source.id is None


# --- memory ---------------------------------------------------------------------------------------

SIZE: Final = 2**15
FITS: Final = 10
"""Number of short series that certainly fit into a generation of a cache of this size."""
TOO_MANY: Final = 200
"""Number of short series that certainly do not fit into both generations."""


def long_labels(number: int, size: int, name: str = STATUS) -> list[tuple[str, str]]:
    return [("__name__", name), *((f"label {n}", f"{number} {n}" * size) for n in range(8))]


def double(name: str, metric: str) -> Column:
    return Column(name, metric, DOUBLE)


MANY: Final = Catalogue(
    [
        Table(
            f"table {number}",
            [double("status", STATUS), double("up", "other")],
            labels=[
                LabelColumn(f"copy {label} {n}", f"label {label}", ("text", "bigint")[number % 2])
                for label in range(8 - number, 8)
                for n in range(number)
            ],
            ignoring=frozenset(f"label {label}" for label in range(8 - number)),
        )
        for number in range(0, 9, 2)
    ]
)
"""Tables that share a metric; the first one ignores all labels, the last one none."""


@pytest.mark.parametrize("catalogue", [KEPT, MANY], ids=["one table", "several tables"])
@pytest.mark.parametrize("name", [STATUS, "up"])
@pytest.mark.parametrize("size", [1, 20, 100], ids="labels of {} texts".format)
@pytest.mark.parametrize("kind", ["bytes", "text", "wide text"])
def test_the_memory_of_a_cache_is_bounded_in_bytes(
    catalogue: Catalogue, name: str, size: int, kind: str
) -> None:
    """Whatever the series: the test measures Python's memory, not the cache's own count."""
    limit = 2**18
    gc.collect()
    tracemalloc.start()
    try:
        cache = SeriesCache(catalogue, limit)
        for number in range(3 * limit // (200 + 64 * size)):
            labels = long_labels(number, size, name)
            if kind == "wide text":
                labels.append(("wide", "\N{GRINNING FACE}" + "x" * 8 * size))
            texts = [text for label in labels for text in label]
            cache.add("\0".join(texts).encode() if kind == "bytes" else join(texts), labels)
        del labels, texts
        taken = traced()
    finally:
        tracemalloc.stop()
    assert held(cache) > 1
    # Labels that sources share are bounded too, but separately.
    assert taken - pairs_of(cache) <= limit * 5 // 8


@pytest.mark.parametrize("labels", [1, 20], ids="{} labels".format)
def test_the_memory_is_bounded_if_many_series_have_one_source(labels: int) -> None:
    metrics = [f"metric {number}" for number in range(50)]
    tables = [Table(name, [double(metric, metric) for metric in metrics]) for name in "abcdefgh"]
    limit = 2**19
    gc.collect()
    tracemalloc.start()
    try:
        cache = SeriesCache(Catalogue(tables), limit)
        for number in range(100):
            for metric in metrics:
                pairs = [("__name__", metric), *((f"n{n}", f"{number} {n}") for n in range(labels))]
                cache.add(join(text for pair in pairs for text in pair), pairs)
        del pairs
        taken = traced()
    finally:
        tracemalloc.stop()
    assert taken - pairs_of(cache) <= limit * 5 // 8
    # The memory of the source is not counted for each of its series.
    assert held(cache) > limit * 5 // 16 // (1500 + 50 * labels)


def test_the_memory_is_that_of_the_table_that_ignores_least() -> None:
    """Whichever table comes first."""
    names = [f"label {number}" for number in range(200)]
    tables = [
        Table("a", [double("status", STATUS)], ignoring=frozenset(names)),
        Table("b", [double("status", STATUS)]),
    ]
    limit = 2**20
    gc.collect()
    tracemalloc.start()
    try:
        cache = SeriesCache(Catalogue(tables), limit)
        for number in range(100):
            labels = {"__name__": STATUS, **{name: f"{number} {name[5:]}" for name in names}}
            cache.add(
                b"%d" % number, [(name[:1] + name[1:], value) for name, value in labels.items()]
            )
        del labels
        taken = traced()
    finally:
        tracemalloc.stop()
    assert held(cache) > 1
    assert taken - pairs_of(cache) <= limit * 5 // 8


def traced() -> int:
    """Return the bytes allocated by Python, without its free lists of tuples."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def held(cache: SeriesCache) -> int:
    """Return the number of series that the cache remembers."""
    return len(cache._young.keys() | cache._old.keys())


def pairs_of(cache: SeriesCache) -> int:
    return sum(200 + getsizeof(pair[0]) + getsizeof(pair[1]) for pair in cache._pairs)


@given(st.integers(1, 100))
def test_a_series_in_use_is_never_forgotten(rounds: int) -> None:
    cache = SeriesCache(KEPT, SIZE)
    use(cache, 0)
    other = 0
    for _ in range(rounds):
        for _ in range(FITS - 1):
            other += 1
            use(cache, other)
        assert use(cache, 0)


@pytest.mark.parametrize("name", [STATUS, "up"])
def test_a_series_not_in_use_is_forgotten(name: str) -> None:
    cache = SeriesCache(KEPT, SIZE)
    cache.add(b"unused", [("__name__", name)])
    before = cache.generation
    for number in range(TOO_MANY):
        use(cache, number)
    assert cache.find(b"unused") is None
    assert cache.generation > before


def test_a_working_set_that_fits_is_parsed_once() -> None:
    cache = SeriesCache(KEPT, SIZE)
    numbers = range(FITS)
    assert not any(use(cache, number) for number in numbers)
    assert all(use(cache, number) for _ in range(20) for number in numbers)


def test_an_invalid_series_is_not_remembered() -> None:
    cache = SeriesCache(KEPT, 2**20)
    for _ in range(2):
        with pytest.raises(InvalidSeriesError):
            cache.add(b"key", [("job", "x")])
        assert cache.find(b"key") is None
    assert not held(cache)


# --- sources --------------------------------------------------------------------------------------


def test_both_series_of_a_label_set_share_their_source() -> None:
    cache = SeriesCache(KEPT, 2**20)
    assert source(cache, {"a": "b"}) is source(cache, {"a": "b"}, OCR)


def test_a_source_in_use_outlives_its_series_in_the_cache() -> None:
    cache = SeriesCache(KEPT, SIZE)
    held = source(cache, {"a": "b"})
    for number in range(TOO_MANY):
        use(cache, number)
    assert cache.find(key_of({"__name__": STATUS, "a": "b"})) is None
    assert source(cache, {"a": "b"}) is held
    assert source(cache, {"a": "b"}, OCR) is held


def test_a_source_that_nobody_uses_is_freed() -> None:
    cache = SeriesCache(KEPT, SIZE)
    freed = weakref.ref(source(cache, {"a": "b"}))
    gc.collect()
    assert freed() is not None
    for number in range(TOO_MANY):
        use(cache, number)
    gc.collect()
    assert freed() is None


@given(strategies.label_sets, strategies.label_sets)
def test_sources_differ_as_their_labels_do(first: dict[str, str], second: dict[str, str]) -> None:
    cache = SeriesCache(KEPT, 2**20)
    meant = [
        {name: value for name, value in labels.items() if value and name != "__name__"}
        for labels in (first, second)
    ]
    sources = [source(cache, {**labels, "__name__": STATUS}) for labels in (first, second)]
    assert (sources[0] is sources[1]) == (meant[0] == meant[1])
    assert [dict(one.labels) for one in sources] == meant


@given(strategies.label_sets)
def test_neither_order_nor_empty_labels_matter(labels: dict[str, str]) -> None:
    cache = SeriesCache(KEPT, 2**20)
    labels["__name__"] = STATUS
    first = source(cache, labels)
    backwards = dict(reversed(labels.items()))
    more = {"an empty one": "", **backwards, "and another": ""}
    without = {name: value for name, value in labels.items() if value}
    for same in (backwards, more, without):
        assert source(cache, same) is first


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": "b"}, {"a": "c"}),
        ({"a": "b"}, {"b": "a"}),
        ({"a": "b"}, {}),
        ({"a": "b"}, {"a": "b", "c": "d"}),
        ({"a": "b", "c": "d"}, {"a": "d", "c": "b"}),
        ({"a": "bc"}, {"ab": "c"}),
        ({"a": "b\0c"}, {"a": "bc"}),
        ({"a": "é"}, {"a": "e\N{COMBINING ACUTE ACCENT}"}),
        ({"A": "b"}, {"a": "b"}),
        ({"a": " b"}, {"a": "b"}),
    ],
)
def test_close_label_sets_are_different_sources(one: dict[str, str], other: dict[str, str]) -> None:
    cache = SeriesCache(KEPT, 2**20)
    assert source(cache, one) is not source(cache, other)


# --- several tables -------------------------------------------------------------------------------


@given(random_rows.catalogues(), st.lists(random_rows.points, max_size=12))
def test_a_series_is_of_every_table_that_declares_it(
    catalogue: Catalogue, points: list[Point]
) -> None:
    cache = SeriesCache(catalogue, 2**20)
    known: dict[tuple[str, tuple[tuple[str, str], ...]], Source] = {}
    for point in points:
        expected = list(feeds(catalogue, point))
        assert cache.keeps(point.metric) >= bool(expected)
        found = add(cache, {"__name__": point.metric, **point.labels})
        if not expected:
            assert found is FILTERED
            continue
        assert found is not FILTERED
        assert cache.shares_metrics >= bool(found.others)
        assert [(one.source.table, one.column) for one in (found, *found.others)] == expected
        for one in (found, *found.others):
            table, source = one.source.table, one.source
            assert source.labels == telling(table, point.labels)
            # All series of a row have the same source, and no other table's has.
            assert known.setdefault((table.name, source.labels), source) is source
            assert one.others == () or one is found
    assert len(set(map(id, known.values()))) == len(known)


def test_labels_that_are_ignored_do_not_tell_sources_apart() -> None:
    table = Table("t", [double("x", "x"), double("y", "y")], ignoring=frozenset({"sensor"}))
    cache = SeriesCache(Catalogue([table]), 2**20)
    first = source(cache, {"line": "A", "sensor": "1"}, "x")
    assert source(cache, {"line": "A", "sensor": "2"}, "y") is first
    assert source(cache, {"line": "A"}, "y") is first
    assert source(cache, {"line": "B", "sensor": "1"}, "x") is not first


def test_a_label_that_is_ignored_may_decide_whether_a_series_matches() -> None:
    table = Table("t", [double("x", "x")], match={"sensor": "1"}, ignoring=frozenset({"sensor"}))
    cache = SeriesCache(Catalogue([table]), 2**20)
    assert source(cache, {"line": "A", "sensor": "1"}, "x").labels == (("line", "A"),)
    assert add(cache, {"__name__": "x", "line": "A", "sensor": "2"}) is FILTERED


def test_a_sample_is_taken_once_for_each_table_and_counted_once() -> None:
    cache = SeriesCache(SHARING, 2**20)
    tally = Tally(Limits(), cache)
    everywhere = tally.add(b"a", [("__name__", STATUS), ("instance", "a")])
    alone = tally.add(b"b", [("__name__", STATUS), ("z", "x")])
    assert everywhere is not FILTERED
    assert alone is not FILTERED
    assert (len(everywhere.others), len(alone.others)) == (2, 0)
    before = tally.size
    tally.count(2)
    tally.keep([(everywhere, NOW, 1.0), (alone, NOW, 2.0)])
    assert tally.size - before == 4 * SAMPLE_SIZE
    request = tally.decoded().request
    assert (request.kept, request.received) == (2, 2)
    assert [(one.source.table.name, value) for one, _, value in request.samples] == [
        ("everything", 1.0),
        ("less", 1.0),
        ("of_a", 1.0),
        ("everything", 2.0),
    ]


def test_memory_is_counted_before_samples_are_taken_for_each_table() -> None:
    """Otherwise a metric of many tables would take many times the limit."""
    cache = SeriesCache(MANY, 2**20)
    tally = Tally(Limits(max_decoded_size=100 * SAMPLE_SIZE), cache)
    known = cache.add(b"a", [("__name__", STATUS)])
    assert known is not FILTERED
    samples = [(known, NOW, 1.0)] * (10 * 1000)
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match="RECEIVER_MAX_DECODED_SIZE"):
            tally.keep(samples)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), max_size=20))
def test_samples_are_repeated_for_the_other_tables_and_in_order(
    drawn: list[tuple[int, int]],
) -> None:
    who = Source(KEPT.tables[0], ())
    column = who.table.columns[0]
    others = tuple(Series(column, Source(KEPT.tables[0], ())) for _ in range(4))
    samples = [(Series(column, who, others[:number]), at, 0.0) for number, at in drawn]
    found = list(for_each_table(samples))
    assert [(series.source, at) for series, at, _ in found] == [
        (one.source, at) for series, at, _ in samples for one in (series, *series.others)
    ]


# --- what is valid --------------------------------------------------------------------------------


@given(strategies.label_sets)
def test_valid_labels_are_kept_but_for_empty_ones(labels: dict[str, str]) -> None:
    expected = {name: value for name, value in labels.items() if value}
    assert check_labels(labels.items()) == expected


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ([], "the label __name__ is missing"),
        ([("job", "x")], "the label __name__ is missing"),
        ([("__name__", "")], "the label __name__ is missing"),
        ([("__name__", "up"), ("", "x")], "a label has no name (its value is 'x')"),
        ([("__name__", "up"), ("", "")], "a label has no name (its value is '')"),
        ([("__name__", "up"), ("a", "x"), ("a", "x")], "the label 'a' occurs more than once"),
        ([("__name__", "up"), ("a", ""), ("a", "x")], "the label 'a' occurs more than once"),
        (
            [("__name__", "up"), ("__name__", "up")],
            "the label '__name__' occurs more than once",
        ),
    ],
)
def test_invalid_labels(labels: list[tuple[str, str]], fault: str) -> None:
    with pytest.raises(InvalidSeriesError) as refusal:
        check_labels(labels)
    assert str(refusal.value) == fault


def test_a_label_set_larger_than_a_generation_is_not_remembered() -> None:
    cache = SeriesCache(KEPT, SIZE)
    use(cache, 0)
    labels = [("__name__", STATUS), ("path", "x" * SIZE)]
    assert cache.add(b"x" * SIZE, labels)
    assert cache.find(b"x" * SIZE) is None
    assert use(cache, 0)


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["x" * 40, "é" * 20, "값" * 13 + "x", "\N{GRINNING FACE}" * 11])
@pytest.mark.parametrize("kind", ["bytes", "text"])
def test_a_label_set_has_at_most_so_many_bytes(text: str, kind: str) -> None:
    """Names and values count as they are sent, in UTF-8."""
    labels = [("__name__", STATUS), ("path", text)]
    texts = [text for label in labels for text in label]
    size = sum(len(text.encode()) for text in texts)
    key = "".join(texts).encode() if kind == "bytes" else join(texts)
    allowing, refusing = (
        SeriesCache(KEPT, 2**20, Limits(max_label_set_size=limit)) for limit in (size, size - 1)
    )
    assert allowing.add(key, labels)
    with pytest.raises(InvalidSeriesError) as refusal:
        refusing.add(key, labels)
    assert str(refusal.value) == (
        f"its labels have {size} bytes or more, the limit is {size - 1} "
        "(RECEIVER_MAX_LABEL_SET_SIZE); the longest is 'path'"
    )
    assert not held(refusing)


def test_a_filtered_series_has_the_same_limit() -> None:
    cache = SeriesCache(KEPT, 2**20, Limits(max_label_set_size=20))
    with pytest.raises(InvalidSeriesError, match="RECEIVER_MAX_LABEL_SET_SIZE"):
        cache.add(b"x" * 30, [("__name__", "up"), ("path", "x" * 20)])


def test_what_new_sources_take_is_counted() -> None:
    cache = SeriesCache(KEPT, 2**20)
    add(cache, {"__name__": "up", "a": "b"})
    assert cache.made == 0
    add(cache, {"__name__": STATUS, "a": "x" * 1000})
    before = cache.made
    assert before > 1000
    add(cache, {"__name__": OCR, "a": "x" * 1000})
    assert cache.made == before


def test_what_the_sources_of_several_tables_take_is_counted_for_each() -> None:
    labels = {"__name__": STATUS, "label 7": "x" * 1000}
    alone, sharing = SeriesCache(KEPT, 2**20), SeriesCache(MANY, 2**20)
    add(alone, labels)
    add(sharing, labels)
    assert sharing.made > 3 * alone.made


@pytest.mark.parametrize("labels", [1, 8], ids="{} labels".format)
def test_what_new_sources_take_is_no_less_than_python_takes(labels: int) -> None:
    for catalogue in (KEPT, MANY):
        cache = SeriesCache(catalogue, 2**28)
        found = []
        gc.collect()
        tracemalloc.start()
        try:
            for number in range(500):
                pairs = long_labels(number, 1)[: 1 + labels]
                known = cache.add(b"%d" % number, pairs)
                assert known is not FILTERED
                found.append([one.source for one in (known, *known.others)])
            cache._young.clear()
            cache._held.clear()
            lists = sum(map(getsizeof, [found, *found]))
            taken = traced()
        finally:
            tracemalloc.stop()
        assert taken - lists <= cache.made + 20_000

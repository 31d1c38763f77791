"""Every accepted sample is in one row, complete or not; every other one is rejected, with a reason.

What the rows are is compared with a slow, obvious model, over any catalogue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from datetime import timedelta
from itertools import chain, pairwise
from typing import NamedTuple, TypeAlias

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.protocol.series import FILTERED, SeriesCache, join
from receiver.protocol.tally import for_each_table
from receiver.rows.batch import Batch, Outcomes, TimeWindow
from receiver.rows.columns import BIGINT, BOOLEAN, CODE, DOUBLE, SPECIAL_DOUBLE
from receiver.rows.model import (
    Key,
    Labels,
    Rejected,
    Row,
    Rows,
    Sample,
    Samples,
    Series,
    Source,
    each_row,
)
from receiver.rows.reasons import Reason
from receiver.rows.tables import Catalogue, Column, Table
from tests import random_rows, strategies
from tests.blocks import in_arrays
from tests.messages import NOW, STALE, bits
from tests.random_rows import END_MS, FIRST_MS, Point, alike, feeds, is_stale, reading, telling
from tests.rows import LOGS, OCR, STATUS

NAN = float("nan")

PRESSURE = Column("pressure", "press_pressure_bar", DOUBLE)
STROKES = Column("strokes", "press_strokes_total", BIGINT, required=False)
RUNNING = Column("running", "press_running", BOOLEAN)
PRESS = Table("press_readings", [STROKES, PRESSURE, RUNNING])
LEVEL = Table("levels", [Column("level", "level", DOUBLE)])
NOTED = Table(
    "noted", [Column("level", "level", DOUBLE), Column("note", "note", CODE, required=False)]
)
SOURCES = [Source(LOGS, (("instance", name),)) for name in "abc"]
PRESSES = [Source(PRESS, (("instance", name),)) for name in "ab"]
OTHERS = [Source(LEVEL, ()), Source(NOTED, ())]

Place: TypeAlias = tuple[str, Labels, int]
"""The key of a row: table, labels, timestamp."""
Exact: TypeAlias = dict[str, int]
"""The samples of a row by column, as bits: a NaN is not equal to itself."""
Refused: TypeAlias = tuple[Place, str, int, Reason]
"""A rejected sample: row, column, bits of the value, and reason."""


class Contents(NamedTuple):
    """The contents of a batch."""

    complete: dict[Place, Exact]
    incomplete: dict[Place, Exact]
    rejected: Counter[Refused]
    repeated: Counter[str]
    broken: set[Place]


# --- the model ------------------------------------------------------------------------------------


class Model:
    """Rows as a dictionary of dictionaries: the first value that a column accepts stays."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.rows: dict[Place, dict[str, float]] = {}
        self.rejected: list[Refused] = []
        self.repeated: Counter[str] = Counter()
        self.stale: Counter[str] = Counter()
        self.broken: set[Place] = set()

    def add(self, point: Point) -> None:
        for table, column in feeds(self.catalogue, point):
            source = Source(table, telling(table, point.labels))
            self.add_to(column, source, point.timestamp, point.value)

    def add_to(self, column: Column, source: Source, timestamp: int, value: float) -> None:
        table = source.table
        place = table.name, source.labels, timestamp
        held = reading(column.type, value)
        in_time = FIRST_MS <= timestamp < END_MS
        if isinstance(held, Reason) and is_stale(value):
            self.stale[table.name] += 1
        elif isinstance(held, Reason):
            self.reject(place, column, value, held)
            if in_time and column.required and not table.ignoring:
                self.broken.add(place)
        elif not in_time:
            self.reject(place, column, value, Reason.TIMESTAMP_OUT_OF_RANGE)
        else:
            row = self.rows.setdefault(place, {})
            if column.name not in row:
                row[column.name] = value
            elif alike(reading(column.type, row[column.name]), held):
                self.repeated[table.name] += 1
            else:
                self.reject(place, column, value, Reason.CONFLICT)

    def reject(self, place: Place, column: Column, value: float, reason: Reason) -> None:
        self.rejected.append((place, column.name, bits(value), reason))

    def lacks(self, place: Place) -> bool:
        table = self.catalogue.by_name[place[0]]
        return any(
            column.required and column.name not in self.rows[place] for column in table.columns
        )

    def close(self) -> None:
        for place in list(self.rows):
            if place in self.broken and self.lacks(place):
                for name, value in self.rows.pop(place).items():
                    self.rejected.append((place, name, bits(value), Reason.WITH_OTHER))

    def contents(self) -> Contents:
        exact = {
            place: {name: bits(value) for name, value in values.items()}
            for place, values in self.rows.items()
        }
        return Contents(
            {place: values for place, values in exact.items() if not self.lacks(place)},
            {place: values for place, values in exact.items() if self.lacks(place)},
            Counter(self.rejected),
            self.repeated,
            {
                place
                for place in self.broken
                if (place not in self.rows or self.lacks(place))
                and len(self.catalogue.by_name[place[0]].columns) > 1
            },
        )


# --- the batch in the form of the model -----------------------------------------------------------


def place_of(key: Key) -> Place:
    timestamp, source = key
    return source.table.name, source.labels, timestamp


def rows_of(found: Rows) -> dict[Place, Exact]:
    """Return rows by their keys; fail if one is under another table, or a part is empty."""
    rows: dict[Place, Exact] = {}
    for table, by_time in found.items():
        assert by_time
        assert all(by_time.values())
        for timestamp, source, values in each_row({table: by_time}):
            place = place_of((timestamp, source))
            assert source.table is table
            rows[place] = {column.name: bits(value) for column, value in table.samples(values)}
    return rows


def assembled(batch: Batch) -> dict[Place, Exact]:
    """Return the rows that were assembled from arrays; fail if one occurs twice."""
    rows: dict[Place, Exact] = {}
    for table, blocks in batch.assembled().items():
        for timestamp, source, values in chain.from_iterable(block.rows() for block in blocks):
            place = place_of((timestamp, source))
            assert source.table is table
            assert place not in rows
            assert len(values) == table.width
            rows[place] = {column.name: bits(value) for column, value in table.samples(values)}
    return rows


def contents(*batches: Batch) -> Contents:
    """Return the combined contents of some batches."""
    all_of = Contents({}, {}, Counter(), Counter(), set())
    for batch in batches:
        complete, incomplete = rows_of(batch.rows()), rows_of(batch.incomplete())
        in_arrays_alone = assembled(batch)
        assert complete.keys().isdisjoint(in_arrays_alone)
        complete |= in_arrays_alone
        found = [all_of.complete.keys(), all_of.incomplete.keys(), complete.keys()]
        assert len(set().union(*found, incomplete)) == sum(map(len, [*found, incomplete]))
        all_of.complete.update(complete)
        all_of.incomplete.update(incomplete)
        all_of.rejected.update(
            (place_of((one.timestamp, one.source)), one.column.name, bits(one.value), one.reason)
            for one in batch.rejected
        )
        all_of.repeated.update(batch.repeated)
        all_of.broken.update(map(place_of, batch.broken()))
        assert batch.is_incomplete == bool(incomplete)
        assert bool(batch) == bool(complete or incomplete or batch.rejected)
    return all_of


class Senders:
    """Turns points into samples, as decoders do."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._cache = SeriesCache(catalogue, 2**20)

    def samples(self, points: Iterable[Point]) -> list[Sample]:
        return list(for_each_table(self._kept(points)))

    def _kept(self, points: Iterable[Point]) -> Iterator[Sample]:
        for point in points:
            labels = [("__name__", point.metric), *sorted(point.labels.items())]
            key = join(text for label in labels for text in label)
            series = self._cache.find(key)
            if series is None:
                series = self._cache.add(key, labels)
            if series is not FILTERED:
                yield series, point.timestamp, point.value


def batch_of(*requests: Collection[Sample]) -> tuple[Batch, Outcomes]:
    batch, outcomes = Batch(), Outcomes()
    for request in requests:
        outcomes = outcomes.plus(batch.add(request))
    return batch, outcomes


any_arrivals = random_rows.arrivals(random_rows.any_times, random_rows.any_values)


def chained(requests: list[list[Point]]) -> list[Point]:
    return [point for request in requests for point in request]


@hypothesis_settings(max_examples=300)
@given(random_rows.catalogues(), any_arrivals)
def test_rows_are_what_the_model_says(catalogue: Catalogue, requests: list[list[Point]]) -> None:
    model, senders, batch = Model(catalogue), Senders(catalogue), Batch()
    outcomes = Outcomes()
    for request in requests:
        outcomes = outcomes.plus(batch.add(senders.samples(request)))
        for point in request:
            model.add(point)
        # Rows that a rejected sample breaks are named when the batch is closed.
        assert contents(batch)[:4] == model.contents()[:4]
    assert dict(outcomes.stale) == model.stale
    assert outcomes.rejected == len(model.rejected)
    batch.close()
    model.close()
    assert contents(batch) == model.contents()


@st.composite
def dense_requests(draw: st.DrawFn) -> list[Samples]:
    """Draw requests with complete, incomplete and repeated rows, in arrays or not."""
    sources = [*SOURCES[:2], *PRESSES, *OTHERS]
    value = st.sampled_from([0.0, 0.0, 0.0, 1.0, 1.0, NOW / 1000, 0.5, NAN, STALE])
    requests: list[Samples] = []
    for _ in range(draw(st.integers(1, 4))):
        samples: list[Sample] = []
        for source in draw(st.lists(st.sampled_from(sources), max_size=6)):
            timestamp = draw(st.integers(NOW, NOW + 2))
            columns = source.table.columns
            if draw(st.booleans()):
                columns = tuple(draw(st.lists(st.sampled_from(columns))))
            usual = NOW / 1000 if source.table is LOGS else 1.0
            takes = draw(st.booleans())
            samples += [
                (Series(column, source), timestamp, usual if takes else draw(value))
                for column in columns
            ]
        count = len(samples)
        numbers = draw(
            st.lists(st.sampled_from([0, 1, 1, 1, 2]), min_size=count, max_size=count)
            | st.sampled_from([[1] * count, [0] * count])
        )
        requests.append(in_arrays(samples, numbers))
    return requests


@pytest.mark.usefixtures("few_are_many")
@hypothesis_settings(max_examples=1500)
@given(dense_requests())
def test_rows_of_arrays_are_what_the_model_says(requests: list[Samples]) -> None:
    """However the samples of a request are divided into arrays, and some into none."""
    model, batch = Model(Catalogue([LOGS, PRESS, LEVEL, NOTED])), Batch()
    stale: Counter[str] = Counter()
    for request in requests:
        stale.update(batch.add(request).stale)
        for (column, source, _), timestamp, value in request:
            model.add_to(column, source, timestamp, value)
        assert batch.is_incomplete >= bool(model.contents().incomplete)
    assert stale == model.stale
    batch.close()
    model.close()
    assert contents(batch) == model.contents()


@pytest.mark.usefixtures("few_are_many")
@hypothesis_settings(max_examples=600)
@given(dense_requests(), st.data())
def test_what_is_passed_on_in_arrays_is_neither_lost_nor_doubled(
    sent: list[Samples], data: st.DataObject
) -> None:
    whole, _ = batch_of(*sent)
    whole.close()
    batch, _ = batch_of(*sent)
    batch.close()
    before = contents(whole)
    following = Batch()
    lone = [request for request in sent if batch.has_incomplete(request)]
    for request in sent:
        keys = {place_of((timestamp, source)) for (_, source, _), timestamp, _ in request}
        assert (request in lone) == bool(keys & before.incomplete.keys())
    chosen = data.draw(st.lists(st.sampled_from(lone))) if lone else []
    for request in chosen:
        batch.pass_on([request], following)
    for request in chosen:
        assert not batch.has_incomplete(request)
    passed = {
        place_of((timestamp, source))
        for request in chosen
        for (_, source, _), timestamp, _ in request
    } & before.incomplete.keys()
    for request in sent:
        assert following.has_incomplete(request) == any(
            place_of((timestamp, source)) in passed for (_, source, _), timestamp, _ in request
        )
    # In the batch that they were passed to, later samples complete them.
    completes = data.draw(st.booleans())
    if completes:
        rest = [
            (Series(column, source), timestamp, NOW / 1000 if source.table is LOGS else 1.0)
            for source in [*SOURCES, *PRESSES, *OTHERS]
            for timestamp in range(NOW, NOW + 3)
            for column in source.table.columns
        ]
        some = [one for one in rest if place_of((one[1], one[0].source)) in passed]
        numbers = data.draw(st.sampled_from([[0], [1]])) * len(some)
        following.add(in_arrays(some, numbers))
    following.close()
    if completes:
        found = contents(following)
        assert found.complete.keys() == passed
        assert not found.incomplete
        for place, values in found.complete.items():
            assert values.items() >= before.incomplete[place].items()
    else:
        assert contents(batch, following) == before


@pytest.mark.usefixtures("few_are_many")
def test_only_the_rows_of_the_samples_are_passed_on() -> None:
    batch, following = Batch(), Batch()
    lone = [in_arrays([(Series(STATUS, source), NOW, 1.0)], [1]) for source in SOURCES[:2]]
    for request in lone:
        batch.add(request)
    batch.close()
    batch.pass_on([lone[0]], following)
    assert [batch.has_incomplete(request) for request in lone] == [False, True]
    assert [following.has_incomplete(request) for request in lone] == [True, False]
    for some, source in ((batch, SOURCES[1]), (following, SOURCES[0])):
        assert some.is_incomplete
        assert rows_of(some.incomplete()).keys() == {place_of((NOW, source))}


@pytest.mark.usefixtures("few_are_many")
def test_a_row_of_arrays_is_whole_though_one_of_its_values_was_rejected_before() -> None:
    batch = Batch()
    status, ocr = (Series(column, SOURCES[0]) for column in LOGS.columns)
    batch.add(in_arrays([(status, NOW, NAN)], [1]))
    batch.add(in_arrays([(status, NOW, 1.0), (ocr, NOW, NOW / 1000)], [1, 1]))
    batch.close()
    assert len(rows_of(batch.rows()) | assembled(batch)) == 1
    assert not batch.broken()
    assert [one.reason for one in batch.rejected] == [Reason.NOT_A_NUMBER]


@pytest.mark.usefixtures("few_are_many")
def test_keys_of_sources_that_were_made_long_after_others_may_be_the_same() -> None:
    sources = [Source(LOGS, (("instance", name),)) for name in "ab"]
    sources[1].number = sources[0].number + 2**22
    pairs = zip(LOGS.columns, sources, strict=True)
    samples = [(Series(column, source), NOW, NOW / 1000) for column, source in pairs]
    for numbers in ([1, 1], [1, 2], [0, 1], [1, 0]):
        batch = Batch()
        batch.add(in_arrays(samples, numbers))
        batch.close()
        assert not batch.assembled()
        assert len(rows_of(batch.incomplete())) == len(samples)


@given(random_rows.catalogues(), any_arrivals)
def test_every_sample_is_accounted_for(catalogue: Catalogue, requests: list[list[Point]]) -> None:
    """An accepted sample is in a row or repeats one that is; none is lost or duplicated."""
    senders = Senders(catalogue)
    sent = [senders.samples(request) for request in requests]
    batch, outcomes = batch_of(*sent)
    samples = [sample for request in sent for sample in request]
    assert outcomes.accepted + outcomes.rejected + sum(outcomes.stale.values()) == len(samples)
    assert outcomes.rejected == len(batch.rejected)
    batch.close()
    found = contents(batch)
    in_rows = sum(map(len, [*found.complete.values(), *found.incomplete.values()]))
    with_other = sum(one.reason is Reason.WITH_OTHER for one in batch.rejected)
    assert outcomes.accepted == in_rows + found.repeated.total() + with_other

    sent_exactly = Counter(
        (place_of((timestamp, source)), column.name, bits(value))
        for (column, source, _), timestamp, value in samples
    )
    kept = Counter(
        (place, name, exact)
        for rows in (found.complete, found.incomplete)
        for place, values in rows.items()
        for name, exact in values.items()
    )
    refused = Counter(one[:3] for one in found.rejected.elements())
    assert kept + refused <= sent_exactly
    stale = sum(is_stale(value) for _, _, value in samples)
    others = (sent_exactly - kept - refused).total()
    assert others == found.repeated.total() + sum(outcomes.stale.values())
    assert sum(outcomes.stale.values()) == stale
    # Of what is not in its row, the row holds another value of the same reading, or is gone.
    for place, name, _ in sent_exactly - kept - refused:
        values = {**found.complete, **found.incomplete}.get(place, {})
        assert name in values or place in found.broken or stale


@given(
    random_rows.catalogues(),
    st.one_of(st.lists(random_rows.points, max_size=30), any_arrivals.map(chained)),
    st.data(),
)
def test_neither_order_nor_division_matters(
    catalogue: Catalogue, points: list[Point], data: st.DataObject
) -> None:
    """Of samples of which no two are of the same column, source and time."""
    senders = Senders(catalogue)
    by_slot = {
        (column, source, timestamp): (Series(column, source), timestamp, value)
        for (column, source, _), timestamp, value in senders.samples(points)
    }
    samples = list(by_slot.values())
    whole, _ = batch_of(samples)
    shuffled = data.draw(st.permutations(samples))
    cuts = data.draw(st.lists(st.integers(0, len(samples)), max_size=4).map(sorted))
    parts = [shuffled[start:end] for start, end in pairwise([0, *cuts, len(samples)])]
    batch, _ = batch_of(*parts)
    assert contents(batch) == contents(whole)
    batch.close()
    whole.close()
    assert contents(batch) == contents(whole)
    assert not batch.repeated


@given(random_rows.catalogues(), random_rows.arrivals(), st.data())
def test_what_is_passed_on_is_neither_lost_nor_doubled(
    catalogue: Catalogue, requests: list[list[Point]], data: st.DataObject
) -> None:
    senders = Senders(catalogue)
    sent = [senders.samples(request) for request in requests]
    batch, _ = batch_of(*sent)
    batch.close()
    before = contents(batch)
    following = Batch()
    lone = [request for request in sent if batch.has_incomplete(request)]
    chosen = data.draw(st.lists(st.sampled_from(lone))) if lone else []
    for request in chosen:
        batch.pass_on([request], following)
    assert contents(batch, following) == before
    assert not following.rows()
    assert not following.rejected
    for request in chosen:
        assert not batch.has_incomplete(request)
    waiting = rows_of(following.incomplete())
    for request in sent:
        assert following.has_incomplete(request) == any(
            place_of((timestamp, series.source)) in waiting for series, timestamp, _ in request
        )
    # In the batch that they were passed to, they are completed as in the original one.
    later = [sample for request in reversed(sent) for sample in request]
    following.add(later)
    complete = rows_of(following.rows())
    for place, values in waiting.items():
        row = {**rows_of(following.incomplete()), **complete}[place]
        assert row.items() >= values.items()


# --- samples of a row -----------------------------------------------------------------------------


def sample(
    column: Column, value: float, timestamp: int = NOW, source: Source = SOURCES[0]
) -> Sample:
    return Series(column, source), timestamp, float(value)


def status(value: float = 0.0, timestamp: int = NOW, source: Source = SOURCES[0]) -> Sample:
    return sample(STATUS, value, timestamp, source)


def ocr(value: float = NOW / 1000, timestamp: int = NOW, source: Source = SOURCES[0]) -> Sample:
    return sample(OCR, value, timestamp, source)


def press(column: Column, value: float = 1.0, timestamp: int = NOW) -> Sample:
    return sample(column, value, timestamp, PRESSES[0])


def complete(batch: Batch) -> list[Row]:
    return list(each_row(batch.rows()))


def incomplete(batch: Batch) -> list[Row]:
    return list(each_row(batch.incomplete()))


def test_samples_of_other_times_or_sources_are_no_row() -> None:
    batch, _ = batch_of(
        [status(), ocr(timestamp=NOW + 1), ocr(source=SOURCES[1])], [ocr(timestamp=NOW - 1)]
    )
    assert not batch.rows()
    assert len(incomplete(batch)) == 4


def test_equal_labels_are_not_enough_sources_are_compared_by_identity() -> None:
    equal = Source(LOGS, SOURCES[0].labels)
    batch, _ = batch_of([status(), ocr(source=equal)])
    assert not batch.rows()


def test_tables_share_no_rows() -> None:
    level = LEVEL.columns[0]
    sources = [Source(LEVEL, ()), Source(NOTED, ())]
    batch, _ = batch_of([sample(NOTED.columns[0], 2.0, NOW, sources[1])])
    batch.add([sample(level, 1.0, NOW, sources[0])])
    assert batch.rows() == {
        LEVEL: {NOW: {sources[0]: [1.0]}},
        NOTED: {NOW: {sources[1]: [2.0, None]}},
    }


@pytest.mark.parametrize("first", [status(3), ocr()])
def test_the_same_sample_twice_is_in_one_row_once(first: Sample) -> None:
    batch, outcomes = batch_of([first, first], [first])
    assert outcomes == Outcomes(accepted=3)
    assert len(incomplete(batch)) == 1
    assert not batch.rejected
    assert batch.repeated == {"app_logs": 2}


def test_a_repeated_sample_still_finds_the_other_one() -> None:
    batch, outcomes = batch_of([status(3)], [status(3), ocr()])
    assert outcomes == Outcomes(accepted=3)
    assert complete(batch) == [(NOW, SOURCES[0], [3.0, NOW / 1000])]
    assert not batch.is_incomplete


@pytest.mark.parametrize("divided", [False, True])
@pytest.mark.parametrize("others", [False, True], ids=["incomplete", "complete"])
@pytest.mark.parametrize(
    ("first", "second", "other"),
    [(status(1), status(2), ocr()), (ocr(), ocr(NOW / 1000 + 1), status())],
)
def test_another_value_for_the_same_key_is_a_conflict(
    first: Sample, second: Sample, other: Sample, others: bool, divided: bool
) -> None:
    before = [first, other] if others else [first]
    requests = [before, [second]] if divided else [[*before, second]]
    batch, outcomes = batch_of(*requests)
    assert outcomes == Outcomes(accepted=len(before), rejected=1)
    (row,) = complete(batch) if others else incomplete(batch)
    assert first[2] in row[2]
    (series, timestamp, value) = second
    assert batch.rejected == [
        Rejected(series.source, series.column, timestamp, value, Reason.CONFLICT)
    ]


def test_values_that_are_stored_alike_are_no_conflict() -> None:
    batch, outcomes = batch_of([status(0.0), status(-0.0), ocr(1e9), ocr(1e9 + 1e-7)])
    assert outcomes == Outcomes(accepted=4)
    assert not batch.rejected


def test_a_special_value_repeats_itself() -> None:
    column = Column("level", "level", SPECIAL_DOUBLE)
    who = Source(Table("special", [column]), ())
    values = [NAN, -NAN, NAN]
    batch, outcomes = batch_of([sample(column, value, NOW, who) for value in values])
    assert outcomes == Outcomes(accepted=3)
    assert batch.repeated == {"special": 2}
    batch.add([sample(column, 1.0, NOW, who)])
    assert [one.reason for one in batch.rejected] == [Reason.CONFLICT]


@pytest.mark.parametrize("value", [0.0, -0.0])
def test_a_value_keeps_its_sign(value: float) -> None:
    batch, _ = batch_of([status(value), ocr()])
    (found,) = rows_of(batch.rows()).values()
    assert found["app_status"] == bits(value)


def test_an_empty_batch_is_false() -> None:
    batch, outcomes = batch_of([], [status(STALE)])
    assert not batch
    assert not batch.is_incomplete
    assert outcomes == Outcomes(stale={"app_logs": 1})


# --- required and optional columns ----------------------------------------------------------------


def test_a_row_needs_its_required_columns_only() -> None:
    batch, _ = batch_of([press(RUNNING), press(PRESSURE, 5.5)])
    assert complete(batch) == [(NOW, PRESSES[0], [5.5, 1.0, None])]
    assert not batch.is_incomplete


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_optional_sample_is_in_the_row_whenever_it_comes(place: int) -> None:
    samples = [press(RUNNING), press(PRESSURE, 5.5)]
    samples.insert(place, press(STROKES, 7.0))
    batch, _ = batch_of(*[[one] for one in samples])
    assert complete(batch) == [(NOW, PRESSES[0], [5.5, 1.0, 7.0])]


@pytest.mark.parametrize("columns", [[STROKES], [STROKES, RUNNING], [PRESSURE]])
def test_a_row_waits_for_its_required_samples(columns: list[Column]) -> None:
    batch, _ = batch_of([press(column) for column in columns])
    assert batch.is_incomplete
    assert batch.has_incomplete([press(columns[0])])
    assert not batch.has_incomplete([press(columns[0], timestamp=NOW + 1)])
    assert len(incomplete(batch)) == 1
    assert not batch.rows()


def test_one_required_column_waits_for_nothing() -> None:
    who = Source(LEVEL, ())
    batch, _ = batch_of([sample(LEVEL.columns[0], 1.5, NOW, who)])
    assert not batch.is_incomplete
    assert batch.rows() == {LEVEL: {NOW: {who: [1.5]}}}


def test_an_optional_sample_waits_for_the_one_that_is_required() -> None:
    level, note = NOTED.columns
    who = Source(NOTED, ())
    noted = sample(note, 1.0, NOW, who)
    lone, _ = batch_of([noted])
    assert lone.is_incomplete
    batch, _ = batch_of([noted], [sample(level, 1.5, NOW, who)])
    assert not batch.is_incomplete
    assert batch.rows() == {NOTED: {NOW: {who: [1.5, 1.0]}}}


# --- stale markers and times ----------------------------------------------------------------------


@given(strategies.values)
def test_only_one_nan_is_the_stale_marker(value: float) -> None:
    column = Column("level", "level", SPECIAL_DOUBLE)
    table = Table("special", [column])
    batch, outcomes = batch_of([sample(column, value, NOW, Source(table, ()))])
    assert outcomes == (Outcomes(stale={"special": 1}) if is_stale(value) else Outcomes(1))
    assert bool(batch) != is_stale(value)


def test_a_stale_marker_out_of_range_is_stale() -> None:
    batch, outcomes = batch_of([status(STALE, timestamp=2**63 - 1)])
    assert outcomes == Outcomes(stale={"app_logs": 1})
    assert not batch


def test_a_stale_marker_breaks_no_row() -> None:
    batch, _ = batch_of([status(STALE), ocr()])
    batch.close()
    assert len(incomplete(batch)) == 1
    assert not batch.rejected
    assert not batch.broken()


@pytest.mark.parametrize("column", [STATUS, OCR])
@pytest.mark.parametrize(
    ("timestamp", "fits"),
    [
        (-(2**63), False),
        (FIRST_MS - 1, False),
        (FIRST_MS, True),
        (0, True),
        (END_MS - 1, True),
        (END_MS, False),
        (2**63 - 1, False),
    ],
)
def test_the_range_of_timestamps(column: Column, timestamp: int, fits: bool) -> None:
    batch, outcomes = batch_of([sample(column, 1.0, timestamp)])
    assert outcomes == Outcomes(accepted=int(fits), rejected=int(not fits))
    if fits:
        (row,) = incomplete(batch)
        assert row[0] == timestamp
    else:
        assert batch.rejected == [
            Rejected(SOURCES[0], column, timestamp, 1.0, Reason.TIMESTAMP_OUT_OF_RANGE)
        ]


HOUR = 3_600_000


@pytest.mark.parametrize(
    ("max_age", "max_lead", "timestamp", "expected"),
    [
        (None, None, NOW - 10**12, None),
        (None, None, NOW + 10**12, None),
        (timedelta(hours=1), None, NOW - HOUR, None),
        (timedelta(hours=1), None, NOW - HOUR - 1, Reason.TOO_OLD),
        (timedelta(hours=1), None, NOW + 10**12, None),
        (None, timedelta(hours=1), NOW + HOUR, None),
        (None, timedelta(hours=1), NOW + HOUR + 1, Reason.TOO_FAR_AHEAD),
        (None, timedelta(hours=1), NOW - 10**12, None),
        (timedelta(hours=1), timedelta(hours=1), 2**62, Reason.TIMESTAMP_OUT_OF_RANGE),
        (timedelta(hours=1), timedelta(hours=1), -(2**62), Reason.TIMESTAMP_OUT_OF_RANGE),
    ],
)
def test_times_beyond_the_window_are_rejected(
    max_age: timedelta | None, max_lead: timedelta | None, timestamp: int, expected: Reason | None
) -> None:
    batch = Batch(TimeWindow(max_age, max_lead, lambda: NOW / 1000))
    batch.add([status(0.0, timestamp), ocr(NOW / 1000, timestamp)])
    batch.close()
    assert [one.reason for one in batch.rejected] == ([expected] * 2 if expected else [])
    assert len(complete(batch)) == (expected is None)
    assert not batch.broken()


def test_a_special_value_out_of_the_window_is_rejected_for_its_time() -> None:
    column = Column("level", "level", SPECIAL_DOUBLE)
    who = Source(Table("special", [column]), ())
    batch, _ = batch_of([sample(column, value, END_MS, who) for value in (NAN, 1.0, STALE)])
    assert [one.reason for one in batch.rejected] == [Reason.TIMESTAMP_OUT_OF_RANGE] * 2


# --- broken rows ----------------------------------------------------------------------------------


def test_the_other_samples_of_a_rejected_one_are_rejected_in_whichever_request_they_come() -> None:
    bad, good = status(0.5), ocr()
    for requests in ([[bad, good]], [[good, bad]], [[bad], [good]], [[good], [bad]]):
        batch, _ = batch_of(*requests)
        batch.close()
        assert {one.column: one.reason for one in batch.rejected} == {
            STATUS: Reason.NOT_WHOLE,
            OCR: Reason.WITH_OTHER,
        }
        assert not batch.is_incomplete
        # Others of it may be waiting, from an earlier request.
        assert batch.broken() == [(NOW, SOURCES[0])]


def test_a_row_whose_other_samples_are_elsewhere_is_named() -> None:
    batch, _ = batch_of([status(0.5)])
    batch.close()
    assert batch.broken() == [(NOW, SOURCES[0])]


def test_a_row_that_is_complete_all_the_same_is_not_broken() -> None:
    batch, _ = batch_of([status(0.5), ocr(), status(1)])
    batch.close()
    assert len(complete(batch)) == 1
    assert not batch.broken()


def test_an_optional_sample_breaks_no_row() -> None:
    batch, _ = batch_of([press(STROKES, 0.5), press(RUNNING), press(PRESSURE)])
    batch.close()
    assert [one.reason for one in batch.rejected] == [Reason.NOT_WHOLE]
    assert complete(batch) == [(NOW, PRESSES[0], [1.0, 1.0, None])]
    assert not batch.broken()


def test_a_table_of_one_column_has_no_other_samples_to_reject() -> None:
    batch, _ = batch_of([sample(LEVEL.columns[0], NAN, NOW, Source(LEVEL, ()))])
    batch.close()
    assert not batch.broken()


def test_all_samples_of_a_broken_row_are_rejected() -> None:
    batch, _ = batch_of([press(STROKES, 7.0), press(PRESSURE, 5.5), press(RUNNING, 2.0)])
    batch.close()
    assert Counter((one.column, one.value, one.reason) for one in batch.rejected) == {
        (RUNNING, 2.0, Reason.OUT_OF_RANGE): 1,
        (STROKES, 7.0, Reason.WITH_OTHER): 1,
        (PRESSURE, 5.5, Reason.WITH_OTHER): 1,
    }
    assert not batch.rows()
    assert not batch.is_incomplete

"""Reading record batches of which some records cannot be decoded. The bytes are made by aiokafka's own builder."""

from __future__ import annotations

import struct

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from handrail_runtime import memory
from handrail_runtime.bus_kafka_salvage import PlainBatch, readable, spread, unreadable
from handrail_runtime.ports import Record

_TP = ("t", 3)


def _batch(base: int, values: list[bytes], *, poison: int | None = None, compression: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(2, compression, False, -1, -1, -1, 1_000_000)
    for i, value in enumerate(values):
        name = "XX" if i == poison else "ok"
        assert builder.append(i, timestamp=1000 + i, key=b"k", value=value, headers=[(name, b"h")])
    raw = bytearray(builder.build())
    if poison is not None:
        at = raw.index(b"XX")
        raw[at : at + 2] = b"\xff\xfe"
    raw[0:8] = struct.pack(">q", base)
    return _sealed(raw)


def _sealed(raw: bytearray) -> bytes:
    """With the checksum that belongs to the bytes, as a producer of nonsense would send them."""
    raw[17:21] = struct.pack(">I", calc_crc32c(bytes(raw[21:])))
    return bytes(raw)


def _told(records: list[Record]) -> list[tuple[int, bytes | None, bool]]:
    return [(r.offset, None if unreadable(r) else r.value, unreadable(r) is not None) for r in records]


def test_sound_batches_come_out_whole() -> None:
    data = _batch(10, [b"a", b"b"]) + _batch(12, [b"c"], compression=3)
    records, after = readable(_TP, 10, data, 100)
    assert _told(records) == [(10, b"a", False), (11, b"b", False), (12, b"c", False)]
    assert after == 13
    first = records[0]
    assert (first.topic, first.partition, first.key, first.headers, first.timestamp_ms) == (
        *_TP,
        b"k",
        (("ok", b"h"),),
        1000,
    )


def test_a_poisoned_record_comes_out_as_a_stand_in_between_its_neighbours() -> None:
    records, after = readable(_TP, 10, _batch(10, [b"a", b"b", b"c"], poison=1), 100)
    assert _told(records) == [(10, b"a", False), (11, None, True), (12, b"c", False)]
    assert after == 13
    stand_in = records[1]
    assert stand_in.key is None
    assert b"\xff\xfe" in (stand_in.value or b"")


def test_reading_goes_on_in_the_middle_of_a_batch_and_stops_at_the_room_there_is() -> None:
    data = _batch(0, [b"%d" % i for i in range(10)], poison=5)
    records, after = readable(_TP, 4, data, 3)
    assert [r.offset for r in records] == [4, 5, 6]
    assert after == 7
    records, after = readable(_TP, after, data, 100)
    assert [r.offset for r in records] == [7, 8, 9]
    assert after == 10


def _unknown_codec(base: int, values: list[bytes]) -> bytes:
    raw = bytearray(_batch(base, values))
    raw[21:23] = struct.pack(">h", 7)  # no codec has that number
    return _sealed(raw)


def test_a_batch_that_cannot_be_opened_is_stepped_over_whole_also_at_the_end_of_a_log() -> None:
    data = _batch(0, [b"a"]) + _unknown_codec(1, [b"b", b"c", b"d"])
    records, after = readable(_TP, 0, data, 100)
    assert _told(records) == [(0, b"a", False), (1, None, True)]
    assert after == 4
    assert readable(_TP, 4, data, 100) == ([], 4), "and no further than it says"
    assert readable(_TP, 4, data + _batch(4, [b"e"]), 100)[1] == 5


def test_a_batch_whose_checksum_is_wrong_does_not_say_where_the_next_one_begins() -> None:
    raw = bytearray(_batch(0, [b"a", b"b", b"c"]))
    raw[23:27] = struct.pack(">i", 1_000)  # its last offset, as it claims
    records, after = readable(_TP, 0, bytes(raw), 100)
    assert (_told(records), after) == ([(0, None, True)], 1)
    assert [readable(_TP, at, bytes(raw), 100) for at in (1, 2)] == [([], 2), ([], 3)], (
        "as long as the broker has no other"
    )
    records, after = readable(_TP, 1, bytes(raw) + _batch(3, [b"d"]), 100)
    assert (_told(records), after) == ([(3, b"d", False)], 4)


def test_a_batch_cut_off_by_the_fetch_limit_is_left_for_the_next_fetch() -> None:
    whole, cut = _batch(0, [b"a"]), _batch(1, [b"b"])[:-3]
    assert readable(_TP, 0, whole + cut, 100)[1] == 1
    assert readable(_TP, 1, cut, 100) == ([], 1)


def test_a_batch_that_cannot_be_unpacked_is_one_stand_in_and_what_follows_is_read() -> None:
    broken = bytearray(_batch(0, [b"a"]))
    broken[22] |= 0x07  # a compression that nobody knows
    records, after = readable(_TP, 0, _sealed(broken) + _batch(1, [b"b"]), 100)
    assert _told(records) == [(0, None, True), (1, b"b", False)]
    assert after == 2


def test_a_batch_whose_checksum_is_wrong_is_one_stand_in_and_what_follows_is_read() -> None:
    torn = bytearray(_batch(0, [b"a", b"b"]))
    torn[-1] ^= 0xFF
    records, after = readable(_TP, 0, bytes(torn) + _batch(2, [b"c"]), 100)
    assert _told(records) == [(0, None, True), (2, b"c", False)]
    assert after == 3


def test_bytes_are_not_blamed_where_no_memory_is_left_to_read_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_memory(*_: object) -> None:
        raise MemoryError

    data = _batch(0, [b"a"])
    monkeypatch.setattr(PlainBatch, "_maybe_uncompress", out_of_memory)
    assert _told(readable(_TP, 0, data, 100)[0]) == [(0, None, True)]  # it asks for more than any record may take
    monkeypatch.setattr(memory, "ENOUGH_BYTES", 2**62)  # as if there were none
    with pytest.raises(MemoryError):
        readable(_TP, 0, data, 100)
    monkeypatch.undo()
    monkeypatch.setattr(PlainBatch, "_read_msg", out_of_memory)
    assert _told(readable(_TP, 0, data, 100)[0]) == [(0, None, True)]
    monkeypatch.setattr(memory, "ENOUGH_BYTES", 2**62)
    with pytest.raises(MemoryError):
        readable(_TP, 0, data, 100)


@settings(max_examples=1000)
@given(data=st.data())
def test_damage_of_any_kind_never_raises_and_always_gets_on(data: st.DataObject) -> None:
    sound = bytearray(_batch(0, [b"value %d" % i for i in range(6)]))
    for at, byte in data.draw(st.lists(st.tuples(st.integers(61, len(sound) - 1), st.integers(0, 255)), max_size=8)):
        sound[at] = byte
    position, found = 0, []
    for _ in range(20):
        records, after = readable(_TP, position, _sealed(sound) + _batch(6, [b"end"]), 4)
        assert after > position
        found.extend(records)
        position = after
        if position == 7:
            break
    assert found[-1].value == b"end"
    assert [r.offset for r in found] == sorted({r.offset for r in found})


def test_room_is_shared_over_partitions() -> None:
    positions = {("t", p): 0 for p in range(4)}
    batches = {tp: _batch(0, [b"%d" % i for i in range(10)]) for tp in positions}
    records, after = spread(batches, positions, 8)
    assert after == dict.fromkeys(positions, 2)
    assert len(records) == 8

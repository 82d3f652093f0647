"""Reading past records that the client library cannot decode, so that no record ever stops a partition.

A header name that is not UTF-8 passes every broker and makes aiokafka raise at each fetch, for ever; so does a damaged
batch. Here the same bytes are fetched once more and read record by record; what cannot be read comes out as a record of its own: no key, the raw
bytes as its value, and the header `handrail-unreadable` with the reason. It carries no CloudEvents headers, so a
consumer's decoding sends it into quarantine like any other poison.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import (
    _DefaultRecordBatchPy as PlainBatch,  # pyright: ignore[reportPrivateUsage]  # the compiled one cannot step over a record
)
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint_py as decode_varint  # the compiled one reads beyond the buffer

from handrail_runtime.memory import ran_out
from handrail_runtime.ports import Record, TopicPartition

UNREADABLE = "handrail-unreadable"
"""Header of a record that stands in for one that could not be decoded; its value says why."""

_FRAME = struct.Struct(">qiib")
"""How each batch begins: base offset, bytes after this length field, leader epoch, magic."""
_AFTER_LENGTH = 12


def readable(tp: TopicPartition, position: int, data: bytes, room: int) -> tuple[list[Record], int]:
    """At most `room` records from `position` on in fetched bytes, and the offset to go on from. Never raises for what is
    in `data`; a batch that was cut off at the end is left for the next fetch."""
    found: list[Record] = []
    at = 0
    while at + _FRAME.size <= len(data) and room > len(found):
        base, length, _, magic = _FRAME.unpack_from(data, at)
        end = at + _AFTER_LENGTH + length
        if length <= 0 or end > len(data):
            break
        for record, after in _batch(tp, base, magic, data[at:end], position):
            if after <= position:
                continue
            if len(found) >= room:
                return found, position
            position = after
            if record is not None:
                found.append(record)
        at = end
    return found, position


def _batch(
    tp: TopicPartition, base: int, magic: int, data: bytes, position: int
) -> Iterator[tuple[Record | None, int]]:
    """Each record with the offset after it; None stands for offsets that hold no record (control batches). One record stands
    in for a whole batch: the next one follows it where the checksum vouches for its length, else one offset after the other,
    until the broker answers with another batch."""
    after = max(base, position) + 1
    try:
        if magic < 2:
            yield from _legacy(tp, data)
            return
        batch: Any = PlainBatch(data)
        if not batch.validate_crc():
            raise CorruptRecordException("the checksum does not match")
        if batch.next_offset > base:
            after = batch.next_offset
        if batch.is_control_batch:
            yield None, batch.next_offset
            return
        batch._maybe_uncompress()
    except Exception as e:  # foreign bytes may break the decoder in any way; each means "unreadable"
        if ran_out(e):
            raise
        yield None if position > base else _stand_in(tp, base, data, e, 0), after
        return
    yield from _records(tp, batch)


def _records(tp: TopicPartition, batch: Any) -> Iterator[tuple[Record | None, int]]:
    next_offset: int = batch.base_offset
    for _ in range(batch._num_records):
        start = batch._pos
        if next_offset >= batch.next_offset or start >= len(batch._buffer):
            break
        try:
            r = batch._read_msg(decode_varint)
            if not next_offset <= r.offset < batch.next_offset:
                raise ValueError("an offset outside its batch would leap over sound records")
            offset = r.offset
            record = Record(*tp, offset, r.key, r.value, tuple(r.headers), r.timestamp)
        except Exception as e:  # as above
            if ran_out(e):
                raise
            # The next offset that is free, not the one that the damaged bytes claim: it must not leap either.
            offset = next_offset
            record = _stand_in(tp, offset, _step_over(batch, start), e, batch.first_timestamp)
        next_offset = offset + 1
        yield record, next_offset
    yield None, batch.next_offset


def _step_over(batch: Any, start: int) -> bytes:
    """The raw bytes of the record at `start`; moves the batch behind it, or to its end if the record does not say where
    it ends."""
    buffer = batch._buffer
    try:
        length, at = decode_varint(buffer, start)
        end = at + length
        if length <= 0 or end > len(buffer):
            raise ValueError
    except (ValueError, IndexError):
        at, end = start, len(buffer)
    batch._pos = end
    return bytes(buffer[at:end])


def _legacy(tp: TopicPartition, data: bytes) -> Iterator[tuple[Record | None, int]]:
    records = MemoryRecords(data)
    while records.has_next():
        batch: Any = records.next_batch()
        for r in batch or ():
            yield Record(*tp, r.offset, r.key, r.value, (), r.timestamp), r.offset + 1


def _stand_in(tp: TopicPartition, offset: int, raw: bytes, error: Exception, at_ms: int) -> Record:
    reason = f"Expected a record, but decoding it failed: {type(error).__name__}."
    return Record(*tp, offset, None, raw, ((UNREADABLE, reason.encode()),), at_ms)


def unreadable(record: Record) -> str | None:
    """Why a record could not be decoded; None for every other record."""
    first = record.headers[0] if record.headers else None
    return first[1].decode("utf-8", "replace") if first is not None and first[0] == UNREADABLE else None


def spread(
    data: Mapping[TopicPartition, bytes], positions: Mapping[TopicPartition, int], room: int
) -> tuple[list[Record], dict[TopicPartition, int]]:
    """`readable` over several partitions, each getting an even share of `room` at least once."""
    found: list[Record] = []
    after: dict[TopicPartition, int] = {}
    share = max(1, room // max(1, len(data)))
    for tp, chunk in data.items():
        if len(found) >= room:
            break
        records, after[tp] = readable(tp, positions[tp], chunk, min(share, room - len(found)))
        found.extend(records)
    return found, after

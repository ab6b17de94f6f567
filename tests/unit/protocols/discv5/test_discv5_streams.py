"""Packets over a stream: preface, frames, whatever pieces they arrive in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.primitives.errors import DecodeError
from relay.protocols.discv5.streams import PREFACE, BadFrame, BadPreface, PacketReader, encode_frame

packets = st.lists(st.binary(min_size=63, max_size=1280), max_size=6)


def read_all(reader: PacketReader) -> list[bytes]:
    found = []
    while (packet := reader.next_packet()) is not None:
        found.append(packet)
    return found


@settings(deadline=None)
@given(packets, st.booleans(), st.lists(st.integers(1, 900), min_size=1, max_size=20))
def test_packets_come_out_whole_however_they_are_cut(sent, preface, cuts):
    data = (PREFACE if preface else b"") + b"".join(map(encode_frame, sent))
    reader, found, at, number = PacketReader(preface=preface), [], 0, 0
    while at < len(data):
        size = cuts[number % len(cuts)]
        reader.receive(data[at : at + size])
        found += read_all(reader)
        at, number = at + size, number + 1
    assert found == sent
    assert len(reader) == 0


@given(st.binary(max_size=4000), st.booleans())
def test_hostile_bytes_end_in_a_decode_error_or_in_waiting(data, preface):
    reader = PacketReader(preface=preface)
    reader.receive(data)
    try:
        found = read_all(reader)
    except DecodeError:
        return
    assert all(63 <= len(packet) <= 1280 for packet in found)
    assert len(reader) < 2 + 1280


@settings(deadline=None)
@given(st.binary(max_size=3000))
def test_one_byte_at_a_time_gives_the_same_as_all_at_once(data):
    def outcome(pieces):
        reader, found = PacketReader(preface=False), []
        try:
            for piece in pieces:
                reader.receive(piece)
                while (packet := reader.next_packet()) is not None:
                    found.append(packet)
        except DecodeError as error:
            return found, str(error)
        return found, ""

    assert outcome([data]) == outcome([data[i : i + 1] for i in range(len(data))])


@pytest.mark.parametrize("size", [0, 1, 62, 1281, 0xFFFF])
def test_sizes_that_no_packet_has_are_refused_at_once(size):
    reader = PacketReader(preface=False)
    reader.receive(size.to_bytes(2, "big"))
    with pytest.raises(BadFrame, match=f"not {size}"):
        reader.next_packet()
    with pytest.raises(BadFrame):
        encode_frame(bytes(size))


@pytest.mark.parametrize("start", [b"x", b"dx", b"discv4", b"\x01\x7f", b"GET / HTTP/1.1"])
def test_another_preface_is_refused_at_its_first_wrong_byte(start):
    reader = PacketReader(preface=True)
    reader.receive(start)
    with pytest.raises(BadPreface):
        reader.next_packet()


def test_packets_before_a_bad_frame_are_read():
    reader = PacketReader(preface=True)
    reader.receive(PREFACE + encode_frame(b"a" * 63) + b"\x00\x01")
    assert reader.next_packet() == b"a" * 63
    with pytest.raises(BadFrame):
        reader.next_packet()


class Counted(bytearray):
    """A buffer that counts the bytes which are copied out of it, and knows where bytes were taken away."""

    def __init__(self):
        super().__init__()
        self.copied = 0
        self.taken = []

    def __getitem__(self, key):
        found = super().__getitem__(key)
        self.copied += len(found) if isinstance(key, slice) else 1
        return found

    def __delitem__(self, key):
        begin, end, step = key.indices(len(self))
        assert (begin, step) == (0, 1), "only at the front nothing has to be moved"
        self.taken.append(end)
        super().__delitem__(key)


def counted_reader():
    reader = PacketReader(preface=True)
    reader._buffer = Counted()
    return reader, reader._buffer


def test_work_grows_with_the_number_of_bytes_alone():
    def work(count):
        data = PREFACE + encode_frame(bytes(1280)) * count
        reader, buffer = counted_reader()
        found = 0
        for index in range(len(data)):
            reader.receive(data[index : index + 1])
            found += reader.next_packet() is not None
        assert reader._buffer is buffer
        assert (found, sum(buffer.taken), len(buffer.taken)) == (count, len(data), count + 1)
        return buffer.copied

    # Each byte has the size before it looked at again, two bytes; the preface is compared as it grows.
    assert work(40) - work(20) == work(20) - work(0)
    assert work(20) - work(0) <= 20 * 2 * (2 + 1280)


def test_much_at_once_is_cut_where_it_is():
    reader, buffer = counted_reader()
    reader.receive(PREFACE + encode_frame(bytes(63)) * 20_000)
    assert len(read_all(reader)) == 20_000
    assert buffer.taken == [len(PREFACE)] + [65] * 20_000
    assert buffer.copied <= 2 * len(PREFACE) + 2 * 20_000

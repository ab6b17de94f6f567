"""The aid that other rooms' tests stand on."""

from __future__ import annotations

import pytest

from tests.aids.streams import Recorder, make_pair, pair


async def test_what_one_end_writes_the_other_receives() -> None:
    async with pair(Recorder, Recorder) as wire:
        wire.left.write(b"to the right")
        wire.right.write(b"to the left")
        assert await wire.right.wait_for_bytes(12) == b"to the right"
        assert await wire.left.wait_for_bytes(11) == b"to the left"
    assert wire.left.lost.is_set()
    assert wire.right.lost.is_set()


async def test_closing_one_end_is_heard_at_the_other() -> None:
    wire = await make_pair(Recorder, Recorder)
    wire.left_transport.close()
    await wire.right.wait_lost()
    with pytest.raises(EOFError):
        await wire.right.wait_for_bytes(1)
    await wire.close()


async def test_small_buffers_make_a_writer_wait() -> None:
    async with pair(Recorder, Recorder, buffer_size=4096) as wire:
        wire.right_transport.pause_reading()
        wire.left.write(bytes(1 << 20))
        assert wire.left_transport.get_write_buffer_size() > 0
        wire.right_transport.resume_reading()
        assert len(await wire.right.wait_for_bytes(1 << 20)) == 1 << 20

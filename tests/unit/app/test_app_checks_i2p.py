from __future__ import annotations

import pytest

from relay.app import checks_i2p
from relay.app.checkup import State
from relay.primitives.i2p import I2PKey
from tests.aids.sam_bridge import Lie, SamServer, make_key


async def test_without_i2p_there_is_nothing_to_look_at(doctor):
    assert (await doctor.one("i2p")).state is State.SKIPPED


async def test_bridge_that_greets_is_fine_and_makes_no_session(doctor):
    async with SamServer() as server:
        finding = await doctor.one("i2p", i2p_sam=str(server.address), only_i2p="true")
        assert finding.state is State.OK
        assert "SAM bridge of version 3.1; the router makes our address" in finding.detail
        assert server.said == ["HELLO VERSION MIN=3.1 MAX=3.1"]


async def test_our_own_address_is_told(doctor, tmp_path):
    path = tmp_path / "key.dat"
    path.write_bytes(content := make_key())
    async with SamServer() as server:
        finding = await doctor.one("i2p", i2p_sam=str(server.address), only_i2p="true", i2p_key=str(path))
    assert I2PKey(content).address in finding.detail


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (b"HTTP/1.0 400 no\r\n", "answers in HTTP"),
        (Lie.CLOSE, "closed the connection"),
        (Lie.SILENT, "says nothing"),
    ],
)
async def test_stranger_in_its_place_is_named_with_a_remedy(doctor, monkeypatch, lie, words):
    monkeypatch.setattr(checks_i2p, "PATIENCE", 0.1 if lie is Lie.SILENT else 4.0)
    async with SamServer() as server:
        server.lies["HELLO"] = [lie]
        finding = await doctor.one("i2p", i2p_sam=str(server.address), only_i2p="true")
    assert finding.state is State.FAIL
    assert words in finding.detail
    assert "--i2p-sam" in finding.remedy


async def test_router_that_does_not_run_is_told(doctor):
    async with SamServer() as server:
        place = str(server.address)
    finding = await doctor.one("i2p", i2p_sam=place, only_i2p="true")
    assert finding.state is State.FAIL
    assert "no SAM bridge answers" in finding.detail
    assert "[sam] enabled = true" in finding.remedy


async def test_broken_key_is_told(doctor, tmp_path):
    path = tmp_path / "key.dat"
    path.write_bytes(b"x")
    async with SamServer() as server:
        finding = await doctor.one("i2p", i2p_sam=str(server.address), only_i2p="true", i2p_key=str(path))
    assert finding.state is State.FAIL
    assert "not an I2P key" in finding.detail

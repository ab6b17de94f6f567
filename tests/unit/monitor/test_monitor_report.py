import csv
import io
import json
from pathlib import Path

import pytest

from relay.monitor.geography import Nowhere, open_geography
from relay.monitor.report import COLUMNS, Reporter
from relay.monitor.watch import Watch
from relay.primitives.errors import StorageError
from tests.unit.monitor.conftest import peer, view
from tests.unit.monitor.mmdb import write_mmdb

ADDRESS = "93.184.216.34:30303"


def reporter(*peers: object, addresses: bool = False) -> Reporter:
    watch = Watch(0.0)
    watch.take(view(*peers), 1.0)
    return Reporter(watch, Nowhere(), addresses)


def test_json_is_masked_unless_asked() -> None:
    someone = peer(
        7, address=ADDRESS, enode=f"enode://{'ab' * 64}@{ADDRESS}", full_name="Geth/secret-name/v1.17.8"
    )
    masked = json.dumps(reporter(someone).all(3.0, 1_700_000_000.0))
    shown = json.dumps(reporter(someone, addresses=True).all(3.0, 1_700_000_000.0))

    for personal in ("93.184.216.34", "ab" * 64, someone.key, "secret-name"):
        assert personal not in masked
        assert personal in shown


def test_json_of_a_look() -> None:
    said = reporter(peer(1), peer(2, inbound=None, head=998)).all(4.0, 1_700_000_000.0)

    assert said["up"] is True
    assert said["data_age_seconds"] == 3.0
    assert said["node"]["head"] == 1000
    assert said["counts"]["peers"] == 2
    assert said["peers"][1]["direction"] is None
    assert said["peers"][1]["head_lag"] == 2
    assert said["peers"][0]["os"] == "linux"


def test_json_of_a_node_that_is_absent() -> None:
    watch = Watch(0.0)
    watch.fail("connection refused", 1.0)

    said = Reporter(watch, Nowhere()).all(2.0, 0.0)

    assert (said["up"], said["error"], said["node"], said["peers"]) == (False, "connection refused", None, [])


def test_csv_has_a_row_for_each_peer_and_no_formula(hostile_names: list[str]) -> None:
    peers = [peer(number, client=name, address=ADDRESS) for number, name in enumerate(hostile_names)]

    rows = list(csv.DictReader(io.StringIO(reporter(*peers).csv(2.0))))

    assert len(rows) == len(hostile_names)
    assert tuple(rows[0]) == COLUMNS
    assert all(not row["client"].startswith(("=", "+", "-", "@")) for row in rows)
    assert all(row["address"] == "93.184.*.*" for row in rows)


def test_countries_come_from_a_local_file(tmp_path: Path) -> None:
    path = write_mmdb(
        tmp_path / "country.mmdb",
        {"93.184.0.0/16": {"country": {"iso_code": "SE"}}, "94.0.0.0/8": {"country": "odd"}},
    )
    geography = open_geography(path)

    found = [
        geography.country(peer(1, address=each).address)
        for each in (ADDRESS, "94.1.1.1:1", "8.8.8.8:1", "10.0.0.1:1")
    ]

    assert found == ["SE", "-", "-", "-"]
    geography._reader.close()


def test_bad_files_of_countries_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        open_geography(tmp_path / "missing.mmdb")
    (tmp_path / "bad.mmdb").write_bytes(b"not a database" * 100)
    with pytest.raises(StorageError, match="no database in MaxMind's format"):
        open_geography(tmp_path / "bad.mmdb")

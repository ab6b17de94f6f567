"""Keys on the volume before Tor starts; one volume, one pod."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

import pytest

from relay.app.datadir import DataDir
from relay.kubernetes.entry import Place
from relay.kubernetes.identity import IdentityOptions, VolumeLock, load_identity, make_identity
from relay.primitives.errors import KeyFileError, StorageError
from relay.primitives.onion import OnionKey
from tests.aids.kubernetes import pod

POD = Place("lab", "relays", "relay-0")
ALICE, BOB = pod("relay-0"), pod("relay-1")


def options(folder: Path, **more: object) -> IdentityOptions:
    return IdentityOptions(folder / "data", more.pop("place", POD), **more)  # type: ignore[arg-type]


def secret(folder: Path, who=ALICE, name: str = "relay-0") -> Path:
    keys = folder / "keys"
    keys.mkdir(exist_ok=True)
    (keys / f"{name}-nodekey").write_text(who.node.secret.hex() + "\n")
    (keys / f"{name}-onion_key").write_bytes(who.onion.to_tor_file())
    return keys


def test_keys_are_made_once_and_stay(tmp_path: Path) -> None:
    first = make_identity(options(tmp_path), secrets.token_bytes)
    again = make_identity(options(tmp_path), secrets.token_bytes)
    assert first.made
    assert not again.made
    assert (again.node, again.onion) == (first.node, first.onion)
    assert (tmp_path / "data" / "hostname").read_text() == f"{first.onion.address}\n"
    loaded = load_identity(tmp_path / "data")
    assert (loaded.node, loaded.onion) == (first.node, first.onion)
    for name in ("nodekey", "onion_key"):
        assert stat.S_IMODE((tmp_path / "data" / name).stat().st_mode) == 0o600


def test_tors_folder_is_what_tor_itself_would_have_made(tmp_path: Path) -> None:
    service = tmp_path / "tor" / "service"
    made = make_identity(options(tmp_path, service=service), secrets.token_bytes)
    assert sorted(os.listdir(service)) == ["hostname", "hs_ed25519_public_key", "hs_ed25519_secret_key"]
    assert OnionKey.from_tor_file((service / "hs_ed25519_secret_key").read_bytes()) == made.onion
    public = (service / "hs_ed25519_public_key").read_bytes()
    assert public == b"== ed25519v1-public: type0 ==\x00\x00\x00" + made.onion.public_key
    assert (service / "hostname").read_text().strip() == made.onion.address
    assert stat.S_IMODE(service.stat().st_mode) == 0o700


def test_a_service_that_tor_made_before_is_taken_over(tmp_path: Path) -> None:
    service = tmp_path / "service"
    service.mkdir()
    (service / "hs_ed25519_secret_key").write_bytes(ALICE.onion.to_tor_file())
    assert make_identity(options(tmp_path, service=service), secrets.token_bytes).onion == ALICE.onion
    assert (tmp_path / "data" / "onion_key").read_bytes() == ALICE.onion.to_tor_file()


def test_two_different_onion_keys_are_not_guessed_between(tmp_path: Path) -> None:
    service = tmp_path / "service"
    make_identity(options(tmp_path), secrets.token_bytes)
    service.mkdir()
    (service / "hs_ed25519_secret_key").write_bytes(ALICE.onion.to_tor_file())
    with pytest.raises(KeyFileError, match="another onion service"):
        make_identity(options(tmp_path, service=service), secrets.token_bytes)


def test_keys_of_a_secret_become_the_pods(tmp_path: Path) -> None:
    made = make_identity(options(tmp_path, keys=secret(tmp_path)), secrets.token_bytes)
    assert (made.node, made.onion, made.made) == (ALICE.node, ALICE.onion, False)
    again = make_identity(options(tmp_path, keys=secret(tmp_path)), secrets.token_bytes)
    assert again.node == ALICE.node


def test_a_raw_node_key_of_a_secret_is_fine(tmp_path: Path) -> None:
    keys = secret(tmp_path)
    (keys / "relay-0-nodekey").write_bytes(ALICE.node.secret)
    assert make_identity(options(tmp_path, keys=keys), secrets.token_bytes).node == ALICE.node


def test_a_secret_without_this_pod_is_named(tmp_path: Path) -> None:
    keys = secret(tmp_path, name="relay-9")
    with pytest.raises(KeyFileError, match="no relay-0-nodekey and relay-0-onion_key for this pod"):
        make_identity(options(tmp_path, keys=keys), secrets.token_bytes)
    assert not (tmp_path / "data" / "nodekey").exists()


def test_a_secret_that_differs_from_the_volume_changes_no_identity(tmp_path: Path) -> None:
    make_identity(options(tmp_path, keys=secret(tmp_path)), secrets.token_bytes)
    keys = secret(tmp_path, who=BOB)
    with pytest.raises(KeyFileError, match="another key than the Secret's"):
        make_identity(options(tmp_path, keys=keys), secrets.token_bytes)
    assert load_identity(tmp_path / "data").node == ALICE.node


def test_another_pods_volume_is_refused_in_clear_words(tmp_path: Path) -> None:
    make_identity(options(tmp_path), secrets.token_bytes)
    other = Place("lab", "relays", "relay-1")
    with pytest.raises(
        StorageError, match=r"identity of pod lab/relays/relay-0, and this is pod lab/relays/relay-1"
    ):
        make_identity(options(tmp_path, place=other), secrets.token_bytes)
    make_identity(options(tmp_path, place=other, adopt=True), secrets.token_bytes)
    with pytest.raises(StorageError, match="--adopt-volume"):
        make_identity(options(tmp_path), secrets.token_bytes)


def test_a_volume_that_another_pods_sidecar_holds_is_refused(tmp_path: Path) -> None:
    make_identity(options(tmp_path), secrets.token_bytes)
    lock = VolumeLock(tmp_path / "data")
    lock.take()
    with pytest.raises(StorageError, match="two pods with one volume"):
        make_identity(options(tmp_path), secrets.token_bytes)
    lock.release()
    make_identity(options(tmp_path), secrets.token_bytes)


def test_a_volume_that_another_pods_daemon_holds_is_refused(tmp_path: Path) -> None:
    make_identity(options(tmp_path), secrets.token_bytes)
    daemon = DataDir(tmp_path / "data")
    daemon.lock()
    with pytest.raises(StorageError, match="in use by another pyrelay"):
        make_identity(options(tmp_path), secrets.token_bytes)
    daemon.unlock()


def test_locks_are_let_go_after_a_failure(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "nodekey").write_text("nonsense")
    with pytest.raises(KeyFileError, match="not a node key"):
        make_identity(options(tmp_path), secrets.token_bytes)
    (folder / "nodekey").unlink()
    make_identity(options(tmp_path), secrets.token_bytes)


def test_without_keys_the_later_steps_name_the_earlier_one(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="pyrelay kubernetes identity"):
        load_identity(tmp_path)


def test_a_damaged_mark_of_the_owner_is_written_anew(tmp_path: Path) -> None:
    make_identity(options(tmp_path), secrets.token_bytes)
    for content in (b"", b"[]", b"{}", b"\xff"):
        (tmp_path / "data" / "kubernetes-pod.json").write_bytes(content)
        make_identity(options(tmp_path), secrets.token_bytes)
    with pytest.raises(StorageError):
        make_identity(options(tmp_path, place=Place("lab", "relays", "x")), secrets.token_bytes)

"""Who a relay is, before Tor starts: keys on its volume, made there or taken from a Secret.

An onion address and a node id are pure functions of keys, so both are known while nothing runs yet. A volume
belongs to one pod: two relays with the same keys would each be cut off by the other.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from relay.app.datadir import (
    NODE_KEY,
    ONION_KEY,
    DataDir,
    parse_node_key,
    parse_onion_key,
    read_secret,
    write_atomic,
)
from relay.discovery.files import read_regular
from relay.kubernetes.entry import Place
from relay.primitives.errors import KeyFileError, StorageError
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey

__all__ = ["Identity", "IdentityOptions", "VolumeLock", "load_identity", "make_identity"]

log = structlog.get_logger("relay.kubernetes")

OWNER: Final = "kubernetes-pod.json"
HOSTNAME: Final = "hostname"
VOLUME_LOCK: Final = "kubernetes.lock"
TOR_SECRET: Final = "hs_ed25519_secret_key"  # noqa: S105 - a name of a file
TOR_PUBLIC: Final = "hs_ed25519_public_key"
TOR_PUBLIC_HEADER: Final = b"== ed25519v1-public: type0 ==\x00\x00\x00"
_RAW_KEY: Final = 32  # bytes of a node key that is not written in hexadecimal


@dataclass(frozen=True, slots=True)
class Identity:
    """Both keys. made: they were made just now."""

    node: NodeKey
    onion: OnionKey
    made: bool = False


@dataclass(frozen=True, slots=True)
class IdentityOptions:
    """Where keys come from and go to.

    Attributes:
        datadir: the relay's data folder on the pod's volume.
        place: the pod that the volume belongs to.
        keys: folder of a mounted Secret with POD-nodekey and POD-onion_key; None: keys are made.
        service: folder of an onion service of torrc, to be filled for Tor; None: the relay uses ADD_ONION.
        adopt: take over a volume that belonged to another pod, which must be gone.
    """

    datadir: Path
    place: Place
    keys: Path | None = None
    service: Path | None = None
    adopt: bool = False


class VolumeLock:
    """Held by the sidecar for its life, so that a second pod with the same volume is told of it.

    Args:
        folder: the data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / VOLUME_LOCK
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take it.

        Raises:
            StorageError: another pod has it, or the volume has no locks.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageError(f"{self._path}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise StorageError(
                f"the volume {self._path.parent} is in use by another pod's discovery: two pods with one"
                " volume have one identity, and each cuts the other off. Give each pod its own volume"
                " (volumeClaimTemplates of a StatefulSet)"
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise StorageError(
                f"{self._path} can not be locked: {error.strerror}; choose a volume that has file locks"
            ) from None
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def make_identity(options: IdentityOptions, rand: Callable[[int], bytes]) -> Identity:
    """Load the keys, or make them; write all that Tor and people need. Safe to run again.

    Raises:
        StorageError: the volume is another pod's, is in use, or can not be written.
        KeyFileError: a key file is damaged, or the Secret's key is not the volume's.
    """
    folder = DataDir(options.datadir)
    folder.lock()  # a daemon that runs on this volume is another pod's: ours starts after this program
    lock = VolumeLock(options.datadir)
    try:
        lock.take()
        _claim(options)
        identity = _keys(options, rand)
        _write_names(options, identity)
    finally:
        lock.release()
        folder.unlock()
    return identity


def load_identity(datadir: Path) -> Identity:
    """Read the keys that `make_identity` left.

    Raises:
        KeyFileError: they are not there, or damaged.
    """
    node, onion = _read(datadir / NODE_KEY), _read(datadir / ONION_KEY)
    if node is None or onion is None:
        raise KeyFileError(f"{datadir}: no keys in it; run before this: pyrelay kubernetes identity")
    return Identity(parse_node_key(node, datadir / NODE_KEY), parse_onion_key(onion, datadir / ONION_KEY))


def _claim(options: IdentityOptions) -> None:
    path, own = options.datadir / OWNER, options.place
    found = _owner(path)
    if found is not None and found != own and not options.adopt:
        raise StorageError(
            f"the volume {options.datadir} holds the identity of pod {found}, and this is pod {own}: two pods"
            " must not share a volume or a copy of one. Give this pod a volume of its own; or, if that pod is"
            " gone for good and this one is to take its place, --adopt-volume"
        )
    value = {"cluster": own.cluster, "namespace": own.namespace, "pod": own.pod}
    if found != own:
        write_atomic(path, json.dumps(value).encode() + b"\n")


def _owner(path: Path) -> Place | None:
    try:
        value = json.loads(read_regular(path, 4096))
        return Place(str(value["cluster"]), str(value["namespace"]), str(value["pod"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        log.warning("whose volume this is can not be read; taken over", path=str(path))
        return None


def _keys(options: IdentityOptions, rand: Callable[[int], bytes]) -> Identity:
    given_node, given_onion = _given(options)
    node_path, onion_path = options.datadir / NODE_KEY, options.datadir / ONION_KEY
    node, onion = _held_node(node_path), _held_onion(onion_path)
    tor = None if options.service is None else _held_onion(options.service / TOR_SECRET)
    if onion is not None and tor is not None and onion != tor:
        raise KeyFileError(
            f"{options.service} has the key of another onion service than {onion_path}: move one of them away"
        )
    _same(node, given_node, node_path)
    _same(onion or tor, given_onion, onion_path)
    made = node is None and given_node is None
    new_node = node or given_node or NodeKey.generate(rand)
    new_onion = onion or tor or given_onion or OnionKey.generate(rand)
    if node is None:
        write_atomic(node_path, new_node.secret.hex().encode())
    if onion is None:
        write_atomic(onion_path, new_onion.to_tor_file())
    return Identity(new_node, new_onion, made)


def _same(held: NodeKey | OnionKey | None, given: NodeKey | OnionKey | None, path: Path) -> None:
    if held is not None and given is not None and held != given:
        raise KeyFileError(
            f"{path} is another key than the Secret's: the relay would change its identity. Move the file"
            " away if it is to, or mend the Secret"
        )


def _given(options: IdentityOptions) -> tuple[NodeKey | None, OnionKey | None]:
    """Read the pre-generated keys of this pod, by the names that the Secret's keys have."""
    if options.keys is None:
        return None, None
    node_path = options.keys / f"{options.place.pod}-{NODE_KEY}"
    onion_path = options.keys / f"{options.place.pod}-{ONION_KEY}"
    node, onion = _read(node_path), _read(onion_path)
    if node is None or onion is None:
        missing = " and ".join(each.name for each in (node_path, onion_path) if _read(each) is None)
        raise KeyFileError(f"{options.keys}: the Secret has no {missing} for this pod")
    if len(node) == _RAW_KEY:
        node = node.hex().encode()
    return parse_node_key(node, node_path), parse_onion_key(onion, onion_path)


def _held_node(path: Path) -> NodeKey | None:
    content = _read(path)
    return None if content is None else parse_node_key(content, path)


def _held_onion(path: Path) -> OnionKey | None:
    content = _read(path)
    return None if content is None else parse_onion_key(content, path)


def _read(path: Path) -> bytes | None:
    return read_secret(path, required=False)


def _write_names(options: IdentityOptions, identity: Identity) -> None:
    """Write the address for people, and the folder that torrc's HiddenServiceDir names."""
    address = f"{identity.onion.address}\n".encode()
    write_atomic(options.datadir / HOSTNAME, address)
    if options.service is None:
        return
    try:
        options.service.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(PermissionError):  # a mounted volume's root is kubelet's
            options.service.chmod(0o700)  # Tor refuses a folder that others may enter
    except OSError as error:
        raise StorageError(f"{options.service}: {error.strerror}") from None
    write_atomic(options.service / TOR_SECRET, identity.onion.to_tor_file())
    write_atomic(options.service / TOR_PUBLIC, TOR_PUBLIC_HEADER + identity.onion.public_key)
    write_atomic(options.service / HOSTNAME, address)

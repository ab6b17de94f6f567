"""A real geth on loopback, on a chain of our own, told by the Engine API that it is synced.

    async with Geth(tmp_path / "a", genesis) as geth:
        await geth.add_peer(relay.enode)
        tx_hash = await geth.send(raw)

Everything goes over its unix socket, the Engine API, too: that socket needs no token. Ports are free ones
that geth chose itself. The folder keeps geth.log.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from relay.primitives.enode import Enode
from relay.primitives.enode import parse as parse_enode
from relay.primitives.errors import LocalError
from relay.primitives.keys import PublicKey, node_id
from relay.rpc.client import call
from tests.aids.geth_tools import geth_folder, leash
from tests.aids.until import until

__all__ = ["Geth"]

BATCH = 500  # calls; geth takes 1,000 at a time
ZERO = "0x" + "00" * 32
STOP_SECONDS = 15.0
TAIL = 40  # lines of the log in messages


class Geth:
    """A geth. Nothing runs before `start`.

    Attributes:
        directory: holds its data and geth.log.
        log_path: everything it wrote.
        enode: its URL, once it runs.
    """

    def __init__(
        self,
        directory: Path,
        genesis: Path,
        *,
        flags: Sequence[str] = (),
        verbosity: int = 4,
        max_peers: int = 100,
        network_id: int | None = None,
        chain: Path | None = None,
        discovers: bool = False,
        version: str = "",
    ) -> None:
        """Prepare.

        Args:
            directory: made when it is missing.
            genesis: as `geth init` takes it; its chain id is the network id.
            flags: further ones.
            verbosity: of geth.log; 4 says why a peer was dropped.
            max_peers: joined peers at most.
            network_id: another one than the genesis says.
            chain: blocks to import first.
            discovers: it looks for nodes by UDP, too; flags say how.
            version: another one than the tests are made for, as v1.17.0.
        """
        self.directory = directory
        self.name = directory.name
        self.log_path = directory / "geth.log"
        self.enode = ""
        self._genesis, self._flags, self._verbosity = genesis, list(flags), verbosity
        self._max_peers, self._chain, self._discovers = max_peers, chain, discovers
        self._program = geth_folder(version) / "geth"
        self._network_id = network_id or json.loads(genesis.read_text())["config"]["chainId"]
        self._child: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    # -- life ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, deadline: float = 60.0, *, p2p_port: int = 0) -> None:
        """Start on its genesis; returns when it answers and counts as synced. p2p_port: 0 for a free one."""
        await self._command("init", "--datadir", str(self.directory), str(self._genesis))
        if self._chain is not None:
            await self._command(
                "import", "--datadir", str(self.directory), "--gcmode", "archive", str(self._chain)
            )
        self._launch(p2p_port)
        try:
            await until(self._answers, lambda: f"{self.name} answers\n{self.tail()}", deadline)
            info = await self.rpc("admin_nodeInfo")
            told = parse_enode(info["enode"])
            self.enode = Enode(told.public_key, "127.0.0.1", info["ports"]["listener"], 0).url
            await self.be_synced()
        except BaseException:
            self.kill()
            raise

    async def _command(self, *words: str) -> None:
        """Run one of geth's commands that end by themselves; what it says goes to the log."""
        with self.log_path.open("ab") as log:
            child = subprocess.Popen(
                [*leash(), self._program, *words],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            code = await until(lambda: _ended(child), f"geth {words[0]}", 60.0)
        finally:
            child.kill()
            child.wait()
        assert code == "0", f"geth {words[0]} ended with {code}\n{self.tail()}"

    def _launch(self, p2p_port: int) -> None:
        # --port would bind every interface; a configuration file is the only way to loopback.
        config = self.directory / "p2p.toml"
        config.write_text(f'[Node.P2P]\nListenAddr = "127.0.0.1:{p2p_port}"\n')
        flags = [
            "--datadir", self.directory, "--ipcpath", self.ipc_path, "--config", config,
            "--networkid", str(self._network_id), "--syncmode", "full", "--gcmode", "archive",
            *([] if self._discovers else ["--nodiscover"]),
            "--discovery.dns=", "--nat", "none", "--netrestrict", "127.0.0.0/8",
            "--maxpeers", str(self._max_peers), "--maxpendpeers", "100",
            "--authrpc.addr", "127.0.0.1", "--authrpc.port", "0",
            "--txpool.journal", "", "--txpool.nolocals", "--txpool.accountslots", "1024",
            "--txpool.globalslots", "50000", "--cache", "64", "--verbosity", str(self._verbosity),
        ]  # fmt: skip
        with self.log_path.open("ab") as log:
            self._child = subprocess.Popen(
                [*leash(), self._program, *flags, *self._flags],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def _answers(self) -> bool:
        assert self._child is not None
        if self._child.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self._child.returncode}\n{self.tail()}")
        if not self.ipc_path.exists():
            return False
        try:
            return await self.rpc("eth_blockNumber") is not None
        except LocalError:
            return False

    async def stop(self) -> None:
        """SIGINT, and SIGKILL for one that takes too long."""
        child = self._child
        if child is None:
            return
        with suppress(ProcessLookupError):
            child.send_signal(signal.SIGINT)
        with suppress(TimeoutError):
            await until(lambda: child.poll() is not None, f"{self.name} stops", STOP_SECONDS)
        self.kill()
        shutil.rmtree(self.directory / "geth", ignore_errors=True)  # the databases; the log stays

    def kill(self) -> None:
        """SIGKILL if it runs still."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._child is not None
        return self._child.pid

    # -- calls -----------------------------------------------------------------------------------------

    @property
    def ipc_path(self) -> Path:
        """Its JSON-RPC socket."""
        return self.directory / "geth.ipc"

    async def rpc(self, method: str, *params: object) -> Any:
        """Call a method; CallFailed when geth says no."""
        return await call(str(self.ipc_path), method, params, timeout=30.0)

    async def rpc_many(self, method: str, params: Sequence[object]) -> list[Any]:
        """Call a method with one parameter each, in batches; results in order, errors as their message."""
        reader, writer = await asyncio.open_unix_connection(self.ipc_path, limit=1 << 26)
        try:
            answers: dict[int, Any] = {}
            calls = [
                {"jsonrpc": "2.0", "id": number, "method": method, "params": [param]}
                for number, param in enumerate(params)
            ]
            for start in range(0, len(calls), BATCH):
                writer.write(json.dumps(calls[start : start + BATCH]).encode() + b"\n")
                async with asyncio.timeout(60.0):
                    for answer in json.loads(await reader.readline()):
                        error = answer.get("error")
                        answers[answer["id"]] = error["message"] if error else answer["result"]
            return [answers[number] for number in range(len(calls))]
        finally:
            writer.close()

    async def send(self, raw: bytes) -> str:
        """Submit a transaction; returns its hash as 0x and hex."""
        tx_hash: str = await self.rpc("eth_sendRawTransaction", "0x" + raw.hex())
        return tx_hash

    async def send_many(self, raws: Iterable[bytes]) -> list[str]:
        """Submit transactions in batches; all must be taken."""
        hashes = await self.rpc_many("eth_sendRawTransaction", ["0x" + raw.hex() for raw in raws])
        refused = [answer for answer in hashes if not _is_hash(answer)]
        assert not refused, refused[:3]
        return hashes

    async def raw_transaction(self, tx_hash: bytes) -> bytes | None:
        """Return the bytes of a transaction that it holds."""
        return (await self.raw_transactions([tx_hash]))[0]

    async def raw_transactions(self, hashes: Sequence[bytes]) -> list[bytes | None]:
        """Return the bytes of each transaction, None for those it does not hold.

        What is neither in the pool nor in a block geth answers with null; with an error while it indexes.
        """
        wanted = ["0x" + each.hex() for each in hashes]
        found = await self.rpc_many("eth_getRawTransactionByHash", wanted)
        return [
            bytes.fromhex(each[2:]) if each and len(each) > 2 and each[:2] == "0x" else None for each in found
        ]

    async def until_holds(self, raws: Mapping[bytes, bytes], deadline: float = 30.0) -> None:
        """Wait until it holds every transaction, with these very bytes by these hashes."""
        waiting = dict(raws)

        async def all_there() -> bool:
            hashes = list(waiting)
            for tx_hash, raw in zip(hashes, await self.raw_transactions(hashes), strict=True):
                if raw is not None:
                    assert raw == waiting.pop(tx_hash), f"{tx_hash.hex()} has other bytes in {self.name}"
            return not waiting

        await until(
            all_there,
            lambda: f"{self.name} lacks {len(waiting)} of {len(raws)}, as {next(iter(waiting), b'').hex()}",
            deadline,
            0.1,
        )

    # -- peers -----------------------------------------------------------------------------------------

    async def peers(self) -> list[dict[str, Any]]:
        """Return admin_peers."""
        found: list[dict[str, Any]] = await self.rpc("admin_peers")
        return found

    async def peer(self, public_key: bytes) -> dict[str, Any] | None:
        """Return the entry of one node in admin_peers, once its eth handshake is done."""
        for each in await self.peers():
            if parse_enode(each["enode"]).public_key == public_key:
                return each if isinstance(each["protocols"].get("eth"), dict) else None
        return None

    async def until_peer(self, public_key: bytes, deadline: float = 20.0) -> dict[str, Any]:
        """Wait until a node is its peer; returns its entry."""
        found: dict[str, Any] = await until(
            lambda: self.peer(public_key),
            lambda: f"{self.name} shows the peer {public_key.hex()[:16]}\n{self.tail()}",
            deadline,
        )
        return found

    async def until_no_peer(self, public_key: bytes, deadline: float = 20.0) -> None:
        """Wait until a node is its peer no more."""

        async def gone() -> bool:
            return await self.peer(public_key) is None

        await until(gone, lambda: f"{self.name} lets go of the peer {public_key.hex()[:16]}", deadline)

    async def add_peer(self, url: str) -> None:
        """Make a node a static peer, which it dials."""
        assert await self.rpc("admin_addPeer", url)

    async def remove_peer(self, url: str) -> None:
        """Disconnect a node and dial it no more."""
        assert await self.rpc("admin_removePeer", url)

    # -- chain -----------------------------------------------------------------------------------------

    async def be_synced(self) -> None:
        """Tell it that its own head is the head: until then it drops every transaction of its peers."""
        head = await self.head()
        answer = await self.rpc("engine_forkchoiceUpdatedV3", _forkchoice(head["hash"]), None)
        assert answer["payloadStatus"]["status"] == "VALID", answer

    async def head(self) -> dict[str, Any]:
        """Return its head block."""
        block: dict[str, Any] = await self.rpc("eth_getBlockByNumber", "latest", False)
        return block

    async def build(self, count: int = 1) -> list[dict[str, Any]]:
        """Build blocks as a consensus client has it done; returns their payloads, empty of transactions."""
        head = await self.head()
        parent, timestamp = head["hash"], int(head["timestamp"], 16)
        payloads = []
        for _ in range(count):
            timestamp += 1
            payload = await self._build_one(parent, timestamp)
            parent = payload["executionPayload"]["blockHash"]
            payloads.append(payload)
        return payloads

    async def _build_one(self, parent: str, timestamp: int) -> dict[str, Any]:
        begun = await self.rpc("engine_forkchoiceUpdatedV3", _forkchoice(parent), _attributes(timestamp))
        payload: dict[str, Any] = await self.rpc("engine_getPayloadV5", begun["payloadId"])
        await self.take(payload)
        return payload

    async def grow(self, raws: Iterable[bytes]) -> None:
        """Make a block of each transaction and have it for the head; some milliseconds each."""
        timestamp = int((await self.head())["timestamp"], 16)
        reader, writer = await asyncio.open_unix_connection(self.ipc_path, limit=1 << 20)
        try:
            for number, raw in enumerate(raws, 1):
                words = [_attributes(timestamp + number), ["0x" + raw.hex()], None]
                made = {"jsonrpc": "2.0", "id": number, "method": "testing_commitBlockV1", "params": words}
                writer.write(json.dumps(made).encode() + b"\n")
                async with asyncio.timeout(60.0):
                    answer = json.loads(await reader.readline())
                assert "result" in answer, answer
        finally:
            writer.close()
        await self.be_synced()

    async def build_full(self) -> dict[str, Any]:
        """Build a block of what is in the pool and have it for the head; returns its payload."""
        head = await self.head()
        words = _attributes(int(head["timestamp"], 16) + 1)
        payload: dict[str, Any] = await self.rpc("testing_buildBlockV1", head["hash"], words, None, None)
        await self.take(payload)
        return payload

    async def until_head(self, block_hash: str, deadline: float = 60.0) -> None:
        """Wait until a block is its head."""

        async def reached() -> bool:
            return (await self.head())["hash"] == block_hash

        await until(
            reached, lambda: f"{self.name} has {block_hash} for its head\n{self.tail()}", deadline, 0.1
        )

    async def take(self, payload: dict[str, Any]) -> None:
        """Execute a block that this or another geth built, and make it the head."""
        block = payload["executionPayload"]
        told = await self.rpc("engine_newPayloadV4", block, [], ZERO, payload["executionRequests"])
        assert told["status"] == "VALID", told
        await self.rpc("engine_forkchoiceUpdatedV3", _forkchoice(block["blockHash"]), None)

    async def chase(self, payload: dict[str, Any]) -> None:
        """Tell it of a head whose ancestors it lacks: it begins to ask its peers for headers."""
        block = payload["executionPayload"]
        told = await self.rpc("engine_newPayloadV4", block, [], ZERO, payload["executionRequests"])
        assert told["status"] == "SYNCING", told
        await self.rpc("engine_forkchoiceUpdatedV3", _forkchoice(block["blockHash"]), None)

    @property
    def engine_url(self) -> str:
        """The Engine API over HTTP, for tools that want it so."""
        found = re.search(r"HTTP server started +endpoint=(\S+) +auth=true", self.log())
        assert found, self.tail()
        return f"http://{found[1]}"

    @property
    def jwt_secret(self) -> str:
        """What the Engine API over HTTP asks for, in hex."""
        return (self.directory / "geth" / "jwtsecret").read_text().strip().removeprefix("0x")

    # -- its log ---------------------------------------------------------------------------------------

    def log(self) -> str:
        """Everything it wrote."""
        return self.log_path.read_text("utf-8", "replace")

    def lines(self, *words: str) -> list[str]:
        """The lines of the log that hold all these words."""
        return [line for line in self.log().splitlines() if all(word in line for word in words)]

    def drops(self, public_key: bytes) -> list[str]:
        """The lines that tell of the end of a connection with a node, or of a complaint about it."""
        short = node_id(PublicKey(public_key)).hex()[:16]
        ends = self.lines("Removing p2p peer", short) + self.lines("Dropping", short)
        return ends + [line for line in self.lines(short) if line.startswith(("WARN", "ERROR"))]

    async def until_logged(self, *words: str, deadline: float = 15.0) -> str:
        """Wait for a line that holds all these words."""
        line: list[str] = await until(
            lambda: self.lines(*words), lambda: f"{self.name} logs {words}\n{self.tail()}", deadline, 0.1
        )
        return line[0]

    def tail(self) -> str:
        """The end of its log, for messages."""
        return "\n".join(self.log().splitlines()[-TAIL:]) if self.log_path.exists() else ""


def _forkchoice(head: str) -> dict[str, str]:
    return {"headBlockHash": head, "safeBlockHash": head, "finalizedBlockHash": head}


def _attributes(timestamp: int) -> dict[str, object]:
    return {
        "timestamp": hex(timestamp),
        "prevRandao": ZERO,
        "suggestedFeeRecipient": "0x" + "11" * 20,
        "withdrawals": [],
        "parentBeaconBlockRoot": ZERO,
    }


def _is_hash(answer: object) -> bool:
    return isinstance(answer, str) and re.fullmatch("0x[0-9a-f]{64}", answer) is not None


def _ended(child: subprocess.Popen[bytes]) -> str | None:
    code = child.poll()
    return None if code is None else str(code)

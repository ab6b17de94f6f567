"""RLPx peers of other implementations as processes: tests/counterparts says what they understand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self

from relay.primitives.enode import parse
from relay.primitives.keys import NodeKey
from relay.primitives.rlp import encode
from tests.aids.chain import OwnChain
from tests.aids.line_process import LineProcess, installed
from tests.aids.until import until

__all__ = ["RlpxPeer"]


class RlpxPeer:
    """A node of another implementation: an async context manager.

    Args:
        kind: js or rust.
        chain: its network.
        key: its identity.
        log: where its stderr goes.
        start: further words of its start.

    Attributes:
        enode: where it listens, once it runs.
    """

    enode: str

    def __init__(self, kind: str, chain: OwnChain, key: NodeKey, log: Path, **start: object) -> None:
        program = installed(f"install-rlpx-{kind}.sh")
        self.key, self.log = key, log
        self._process = LineProcess(("node", program) if kind == "js" else (program,), log)
        genesis = json.loads(chain.genesis.read_text())
        # geth's defaults, without which ethrex takes none.
        genesis["config"]["depositContractAddress"] = "0x" + bytes(20).hex()
        genesis |= {"coinbase": "0x" + bytes(20).hex(), "mixHash": "0x" + bytes(32).hex()}
        path = log.with_suffix(".json")
        path.write_text(json.dumps(genesis))
        self._start = {
            "key": key.secret.hex(),
            "genesis": str(path),
            "genesisHash": chain.config.genesis_hash.hex(),
        } | start

    async def __aenter__(self) -> Self:
        await self._process.open()
        try:
            self.enode = await self.ask("start", **self._start)
        except BaseException:
            await self._process.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._process.close()

    async def ask(self, do: str, **arguments: object) -> Any:
        """Give a command; raises PeerFailed."""
        return await self._process.ask(do, **arguments)

    async def dial(self, enode: str) -> None:
        """Connect to a node."""
        await self.ask("dial", enode=enode)

    async def peer(self, enode: str) -> dict[str, Any] | None:
        """What it knows of a node with which it exchanged Status."""
        name = parse(enode).public_key.hex()
        found = [each for each in await self.ask("peers") if each["id"] == name and each["status"]]
        return found[-1] if found else None

    async def until_peer(self, enode: str) -> dict[str, Any]:
        """Wait until it exchanged Status with a node."""
        found: dict[str, Any] = await until(
            lambda: self.peer(enode), lambda: f"joins {enode}\n{self.log.read_text()[-2000:]}"
        )
        return found

    async def send(self, enode: str, transactions: list[bytes]) -> None:
        """Push transactions to a peer."""
        name = parse(enode).public_key.hex()
        await self.ask("send", peer=name, transactions=[each.hex() for each in transactions])

    async def query(self, enode: str, code: int, words: list[Any]) -> list[bytes]:
        """Ask a peer; returns the items of its answer.

        Args:
            enode: of the peer.
            code: of the request.
            words: what follows the request id, for RLP.
        """
        name = parse(enode).public_key.hex()
        told = await self.ask("ask", peer=name, code=code, query=encode(words).hex())
        return [bytes.fromhex(each) for each in told]

    async def transactions(self) -> list[bytes]:
        """The transactions that were pushed to it, in their consensus encoding."""
        return [bytes.fromhex(each) for each in await self.ask("transactions")]

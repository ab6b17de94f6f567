"""``make run-stack``: the Ethereum stack on this machine, without Kubernetes, on loopback alone.

A geth with a chain of its own and a pyrelay as its peer, blocks and transfers between them, the monitor's
exporter, node_exporter, and a Prometheus with the configuration and rules of deployment/monitoring. Ctrl-C
ends all of it. Nothing here reaches another machine: listeners are on 127.0.0.1, and nobody looks for peers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from relay.localnet.accounts import Transfers, make_accounts
from relay.localnet.genesis import throwaway_genesis
from relay.localnet.ports import free_ports
from relay.primitives.errors import LocalError
from relay.rpc.client import call
from relay.transports.sockets import SocketFactory, SocketRules

ROOT: Final = Path(__file__).parents[2]
MONITORING: Final = ROOT / "deployment" / "monitoring"
CHAIN_ID: Final = 8_421
ACCOUNTS: Final = 40
BLOCK_SECONDS: Final = 4.0
FILL_SECONDS: Final = 0.5  # that geth gets to put transactions into a block it was asked for
TRANSFERS_A_SECOND: Final = 2
START_SECONDS: Final = 90.0
STOP_SECONDS: Final = 10.0
ZERO: Final = "0x" + "00" * 32
SYSTEM_CONTRACTS: Final = (
    "00000961ef480eb55e80d19ad83579a64c007002",  # EIP-7002
    "0000bbddc7ce488642fb579f8b00f3a590007251",  # EIP-7251
    "0000f90827f1c53a10cb7a02335b175320002935",  # EIP-2935
    "000f3df6d732807ef1319fb7b8bb8522d0beac02",  # EIP-4788
)
JOBS: Final = {  # job: where its metrics are
    "geth": "/debug/metrics/prometheus",
    "pyrelay": "/debug/metrics/prometheus",
    "peermon": "/metrics",
    "node": "/metrics",
    "prometheus": "/metrics",
}


@dataclass(slots=True)
class Stack:
    """What runs, and where.

    Attributes:
        folder: of all data and logs.
        programs: the folders of geth, and of prometheus and node_exporter.
        ports: by job.
        children: in the order of their start.
    """

    folder: Path
    programs: dict[str, Path]
    ports: dict[str, int]
    children: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)
    blocks: int = 0
    transfers: int = 0

    @property
    def geth_socket(self) -> str:
        """JSON-RPC of geth, its engine API too."""
        return str(self.folder / "geth" / "geth.ipc")

    @property
    def relay_socket(self) -> str:
        """JSON-RPC of the relay."""
        return str(self.folder / "pyrelay" / "pyrelay.ipc")

    def url(self, job: str, path: str = "") -> str:
        """Where a job listens."""
        return f"http://127.0.0.1:{self.ports[job]}{path}"

    def start(self, name: str, *words: object) -> None:
        """Start a program; what it writes goes to NAME.log."""
        # Its own group, so that Ctrl-C reaches only us; and the kernel ends it should we be killed.
        leash = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
        with (self.folder / f"{name}.log").open("wb") as log:
            child = subprocess.Popen(
                [*leash, *map(str, words)], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        self.children.append((name, child))

    def check(self) -> None:
        """Raise LocalError when a program has ended."""
        for name, child in self.children:
            if child.poll() is not None:
                raise LocalError(f"{name} ended with {child.returncode}:\n{self.tail(name)}")

    def tail(self, name: str) -> str:
        """The end of a program's log."""
        return "\n".join((self.folder / f"{name}.log").read_text("utf-8", "replace").splitlines()[-12:])

    def stop(self) -> None:
        """Ask all to end, last first, and end those that do not."""
        for _, child in reversed(self.children):
            child.send_signal(signal.SIGINT)
        until = time.monotonic() + STOP_SECONDS
        for _, child in reversed(self.children):
            try:
                child.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="make run-stack", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end as soon as all of it is seen to work")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="with --once: run on so long before the end"
    )
    parser.add_argument(
        "--folder", type=Path, help="for data and logs (default: a new one, removed at the end)"
    )
    parser.add_argument(
        "--scrapes", type=Path, help="at the end, write what each program exports into this folder"
    )
    parser.add_argument(
        "--queries", action="store_true", help="at the end, run every panel's query and say which are empty"
    )
    arguments = parser.parse_args(words)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="pyrelay-stack-"))
    folder.mkdir(parents=True, exist_ok=True)
    stack = Stack(folder, _programs(), _ports())
    try:
        return asyncio.run(_run_told(stack, arguments))
    except LocalError as error:
        print(f"run-stack: {error}", file=sys.stderr)
        return 1
    finally:
        stack.stop()
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
        print("all stopped", flush=True)


def _programs() -> dict[str, Path]:
    found = {}
    for name, tool in (("geth", "install-geth.sh"), ("prometheus", "install-prometheus.sh")):
        told = subprocess.run([ROOT / "tools" / tool], stdout=subprocess.PIPE, check=False)
        if told.returncode:
            raise SystemExit(f"run-stack: {name} can't be had here: tools/{tool} says why above")
        found[name] = Path(told.stdout.decode().strip())
    return found


def _ports() -> dict[str, int]:
    factory = SocketFactory(SocketRules.anywhere())
    return dict(zip(JOBS, free_ports(len(JOBS), factory, secrets.token_bytes), strict=True))


async def _run_told(stack: Stack, arguments: argparse.Namespace) -> int:
    """Run; what several tasks found at once is told by the first."""
    task = asyncio.current_task()
    assert task is not None
    for each in (signal.SIGINT, signal.SIGTERM):  # ours, also where a shell had Ctrl-C ignored
        asyncio.get_running_loop().add_signal_handler(each, task.cancel)
    try:
        return await _run(stack, arguments)
    except asyncio.CancelledError:
        return 0
    except ExceptionGroup as group:
        known = group.subgroup(LocalError)
        if known is None:
            raise
        first: BaseException = known
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise LocalError(str(first)) from None


async def _run(stack: Stack, arguments: argparse.Namespace) -> int:
    began = time.monotonic()
    transfers = _write_chain(stack)
    await _start_nodes(stack)
    _start_watchers(stack)
    async with asyncio.TaskGroup() as tasks:
        beats = [tasks.create_task(_blocks(stack)), tasks.create_task(_transfers(stack, transfers))]
        beats.append(tasks.create_task(_guard(stack)))
        await _until(lambda: _all_up(stack), "all targets are up in Prometheus, and blocks hold transfers")
        _tell(stack, time.monotonic() - began)
        try:
            await asyncio.sleep(arguments.seconds if arguments.once else float("inf"))
        finally:
            for each in beats:
                each.cancel()
    code = 0
    if arguments.scrapes:
        _save_scrapes(stack, arguments.scrapes)
    if arguments.queries:
        code = await asyncio.to_thread(_ask_panels, stack)
    return code


def _write_chain(stack: Stack) -> Transfers:
    accounts = make_accounts(ACCOUNTS, secrets.token_bytes)
    genesis = throwaway_genesis(CHAIN_ID, [each.address for each in accounts], int(time.time()))
    alloc = genesis["alloc"]
    assert isinstance(alloc, dict)
    # Blocks call these; their code comes from the test data that tools/install-geth.sh keeps beside geth.
    known = json.loads((stack.programs["geth"] / "testdata" / "genesis.json").read_text())["alloc"]
    for address in SYSTEM_CONTRACTS:
        alloc["0x" + address] = {"balance": "0x0", "nonce": "0x1", "code": known[address]["code"]}
    (stack.folder / "genesis.json").write_text(json.dumps(genesis))
    return Transfers(accounts, CHAIN_ID)


async def _start_nodes(stack: Stack) -> None:
    geth, home, genesis = (
        stack.programs["geth"] / "geth",
        stack.folder / "geth",
        stack.folder / "genesis.json",
    )
    home.mkdir(exist_ok=True)
    await asyncio.to_thread(_write_genesis_block, geth, home, genesis)
    # --port would bind every interface; a configuration file is the only way to loopback.
    (home / "p2p.toml").write_text('[Node.P2P]\nListenAddr = "127.0.0.1:0"\n')
    stack.start(
        "geth", geth, "--datadir", home, "--ipcpath", stack.geth_socket, "--config", home / "p2p.toml",
        "--networkid", CHAIN_ID, "--syncmode=full", "--nodiscover", "--discovery.dns=", "--nat=none",
        "--netrestrict=127.0.0.0/8", "--authrpc.port=0", "--cache=64", "--metrics",
        "--metrics.addr=127.0.0.1",
        f"--metrics.port={stack.ports['geth']}",
    )  # fmt: skip
    stack.start(
        "pyrelay", sys.executable, "-m", "relay.cli.main", "--datadir", stack.folder / "pyrelay",
        "--network", genesis, "--listen-address=127.0.0.1", "--port=0", "--discovery=off",
        "--private-broadcast=off", f"--metrics.port={stack.ports['pyrelay']}",
    )  # fmt: skip
    await _until(lambda: _answers(stack, stack.geth_socket), "geth answers")
    await _choose_head(stack, (await _head(stack))["hash"])  # until then it drops its peers' transactions
    await _until(lambda: _answers(stack, stack.relay_socket), "pyrelay answers")
    # One node that is not trusted is not believed about its chain: the relay would stay at block 0.
    node, relay = [await call(each, "admin_nodeInfo") for each in (stack.geth_socket, stack.relay_socket)]
    await call(stack.relay_socket, "admin_addTrustedPeer", [_on_loopback(node)])
    await call(stack.geth_socket, "admin_addPeer", [_on_loopback(relay)])


def _write_genesis_block(geth: Path, home: Path, genesis: Path) -> None:
    made = subprocess.run([geth, "init", "--datadir", home, genesis], capture_output=True, check=False)
    if made.returncode:
        raise LocalError(f"geth init ended with {made.returncode}:\n{made.stderr.decode()[-2000:]}")


def _on_loopback(info: dict[str, Any]) -> str:
    key = info["enode"].removeprefix("enode://").split("@")[0]
    return f"enode://{key}@127.0.0.1:{info['ports']['listener']}"


def _start_watchers(stack: Stack) -> None:
    stack.start(
        "peermon", sys.executable, "-m", "relay.cli.main", "monitor", "--rpc", stack.geth_socket,
        "--export", stack.ports["peermon"], "--interval", "2", "--datadir", stack.folder / "none",
    )  # fmt: skip
    programs, watched = stack.programs["prometheus"], stack.folder / "prometheus"
    stack.start("node", programs / "node_exporter", f"--web.listen-address=127.0.0.1:{stack.ports['node']}")
    watched.mkdir(exist_ok=True)
    shutil.copy(MONITORING / "prometheus.yaml", watched)
    shutil.copytree(MONITORING / "rules", watched / "rules", dirs_exist_ok=True)
    (watched / "targets").mkdir(exist_ok=True)
    for job, port in stack.ports.items():
        groups = [{"targets": [f"127.0.0.1:{port}"], "labels": {"network": "stack"}}]
        (watched / "targets" / f"{job}.yaml").write_text(json.dumps(groups))  # JSON is YAML
    stack.start(
        "prometheus", programs / "prometheus", f"--config.file={watched / 'prometheus.yaml'}",
        f"--storage.tsdb.path={watched / 'data'}",
        f"--web.listen-address=127.0.0.1:{stack.ports['prometheus']}",
    )  # fmt: skip


# -- the chain ---------------------------------------------------------------------------------------------


async def _head(stack: Stack) -> dict[str, Any]:
    block: dict[str, Any] = await call(stack.geth_socket, "eth_getBlockByNumber", ["latest", False])
    return block


async def _choose_head(stack: Stack, head: str, attributes: object = None) -> dict[str, Any]:
    chosen = {"headBlockHash": head, "safeBlockHash": head, "finalizedBlockHash": head}
    told: dict[str, Any] = await call(stack.geth_socket, "engine_forkchoiceUpdatedV3", [chosen, attributes])
    return told


async def _blocks(stack: Stack) -> None:
    """Be what a consensus client is to geth: ask for a block, have it executed, choose it."""
    while True:
        await asyncio.sleep(BLOCK_SECONDS - FILL_SECONDS)
        head = await _head(stack)
        begun = await _choose_head(stack, head["hash"], _attributes(int(head["timestamp"], 16)))
        await asyncio.sleep(FILL_SECONDS)
        made = await call(stack.geth_socket, "engine_getPayloadV5", [begun["payloadId"]])
        block = made["executionPayload"]
        await call(stack.geth_socket, "engine_newPayloadV4", [block, [], ZERO, made["executionRequests"]])
        await _choose_head(stack, block["blockHash"])
        stack.blocks += 1
        stack.transfers += len(block["transactions"])


def _attributes(parent: int) -> dict[str, object]:
    return {
        "timestamp": hex(max(parent + 1, int(time.time()))),
        "prevRandao": ZERO,
        "suggestedFeeRecipient": "0x" + "11" * 20,
        "withdrawals": [],
        "parentBeaconBlockRoot": ZERO,
    }


async def _transfers(stack: Stack, transfers: Transfers) -> None:
    """Give the relay transfers, which geth gets as its peer."""
    await _until(lambda: _joined(stack), "geth is the relay's peer")
    while True:
        _, raw = transfers.next()
        await call(stack.relay_socket, "eth_sendRawTransaction", ["0x" + raw.hex()])
        await asyncio.sleep(1 / TRANSFERS_A_SECOND)


# -- is it there? ------------------------------------------------------------------------------------------


async def _until(seen: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await seen():  # noqa: ASYNC110 - other programs set no event of ours
                await asyncio.sleep(0.25)
    except TimeoutError:
        raise LocalError(f"waited {START_SECONDS:g} s in vain until {what}") from None


async def _answers(stack: Stack, socket: str) -> bool:
    stack.check()
    with contextlib.suppress(LocalError):
        return bool(await call(socket, "admin_nodeInfo"))
    return False


async def _joined(stack: Stack) -> bool:
    return bool(await call(stack.relay_socket, "admin_peers"))


async def _all_up(stack: Stack) -> bool:
    stack.check()
    try:
        told = await asyncio.to_thread(_get, stack.url("prometheus", "/api/v1/query?query=up"))
    except (urllib.error.URLError, OSError):
        return False
    up = {each["metric"]["job"] for each in json.loads(told)["data"]["result"] if each["value"][1] == "1"}
    return up == set(JOBS) and stack.transfers > 0


async def _guard(stack: Stack) -> None:
    while True:
        stack.check()
        await asyncio.sleep(1.0)


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - of our own making, to loopback
        text: str = answer.read().decode()
        return text


# -- what a person sees ------------------------------------------------------------------------------------


def _tell(stack: Stack, seconds: float) -> None:
    monitor = f"{Path(sys.executable).parent / 'pyrelay'} monitor --rpc {stack.geth_socket}"
    print(f"""The stack runs after {seconds:.0f} s: geth and pyrelay are peers; {stack.blocks} blocks,
{stack.transfers} transfers.

  status page of the relay   {stack.url("pyrelay", "/")}
  Prometheus                 {stack.url("prometheus", "/graph")}
    targets                  {stack.url("prometheus", "/targets")}
    rules, alerts            {stack.url("prometheus", "/alerts")}
  peers of geth, exported    {stack.url("peermon", "/metrics")}
  peers of geth, live        {monitor}
  metrics of geth            {stack.url("geth", JOBS["geth"])}
  data and logs              {stack.folder}

Ctrl-C ends all of it.""", flush=True)  # fmt: skip


def _save_scrapes(stack: Stack, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for job, path in JOBS.items():
        (folder / f"{job}.txt").write_text(_get(stack.url(job, path)))


def _ask_panels(stack: Stack) -> int:
    """Run the queries of all panels that are of programs that run here; 1 when one of them fails."""
    failed = 0
    for file in sorted((MONITORING / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", []):
                expression = target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
                query = urllib.parse.urlencode({"query": expression})
                try:
                    told = json.loads(_get(stack.url("prometheus", f"/api/v1/query?{query}")))
                    word = f"{len(told['data']['result'])} series"
                except urllib.error.HTTPError as error:
                    failed, word = 1, f"FAILED: {error.read().decode()}"
                print(f"{file.stem:12} {panel['title']:38.38} {word:10} {expression}")
    return failed


if __name__ == "__main__":
    sys.exit(main())

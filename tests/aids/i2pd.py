"""A private I2P network: three i2pd routers behind walls of their own, and their SAM bridges.

    with Walled() as walls:
        network = PrivateI2P(folder, walls)
        await network.start()
        ...                                       # network.bridges[n] is a port of loopback behind the walls
        network.stop()

i2pd refuses peers from 127/8 and from private networks, so the routers have benchmarking addresses
(198.18.0.0/15) on the loopback in there. Nothing can leave: a netid of its own, no reseed, no address book,
no clock servers, and routes to nowhere. Relays there need --i2p-hops 0: so few routers find no longer tunnel.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.aids.until import until
from tests.aids.walled import Walled

__all__ = ["FOUND", "SAM_PORT", "PrivateI2P", "bridged"]

FOUND = shutil.which("i2pd")
SAM_PORT = 7656
_NETID, _PORT, _SAM = 77, 27_600, 27_800
_TO_I2P = bytes.maketrans(b"+/", b"-~")
_CONF = """\
netid = {netid}
ipv4 = true
ipv6 = false
host = {host}
address4 = {host}
port = {port}
nat = false
reservedrange = false
floodfill = true
bandwidth = X
share = 100
daemon = false
log = file
logfile = {folder}/i2pd.log
loglevel = warn
[ntcp2]
enabled = true
published = true
port = {port}
[ssu2]
enabled = false
[http]
enabled = false
[httpproxy]
enabled = false
[socksproxy]
enabled = false
[bob]
enabled = false
[i2cp]
enabled = false
[i2pcontrol]
enabled = false
[upnp]
enabled = false
[nettime]
enabled = false
frompeers = false
[reseed]
verify = false
threshold = 0
urls =
yggurls =
[addressbook]
defaulturl =
subscriptions =
[sam]
enabled = true
address = 127.0.0.1
port = {sam}
[exploratory]
inbound.length = 1
outbound.length = 1
inbound.quantity = 2
outbound.quantity = 2
[persist]
profiles = false
addressbook = false
"""


class PrivateI2P:
    """Three routers.

    Attributes:
        bridges: ports of their SAM bridges, behind the walls.
    """

    def __init__(self, folder: Path, walls: Walled, routers: int = 3) -> None:
        self.walls = walls
        self.bridges = [_SAM + number for number in range(routers)]
        self._folders = [folder / f"router{number}" for number in range(routers)]
        self._children: list[subprocess.Popen[bytes]] = []

    async def start(self, deadline: float = 90.0) -> None:
        """Start twice: the first time makes identities, which each router then finds in its database."""
        with self.walls.entered():
            for number, folder in enumerate(self._folders):
                host = f"198.18.0.{11 + number}"
                subprocess.run(["ip", "address", "add", f"{host}/32", "dev", "lo"], check=True)
                folder.mkdir(parents=True)
                (folder / "tunnels.conf").touch()
                (folder / "i2pd.conf").write_text(
                    _CONF.format(
                        netid=_NETID, host=host, port=_PORT + number, sam=self.bridges[number], folder=folder
                    )
                )
        self._launch()
        infos = [folder / "router.info" for folder in self._folders]
        await until(lambda: all(_complete(each) for each in infos), self._why("make identities"), deadline)
        self.stop()
        self._introduce([each.read_bytes() for each in infos])
        self._launch()
        await until(self._answer, self._why("open their bridges"), deadline)

    def stop(self) -> None:
        """End them."""
        for child in self._children:
            child.terminate()
        for child in self._children:
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._children = []

    def restart(self) -> None:
        """Begin again after `stop`, with the identities of before."""
        self._launch()

    def _launch(self) -> None:
        with self.walls.entered():
            self._children = [
                subprocess.Popen(
                    [
                        "i2pd", "--datadir", str(folder), "--conf", str(folder / "i2pd.conf"),
                        "--tunconf", str(folder / "tunnels.conf"),
                    ],
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )
                for folder in self._folders
            ]  # fmt: skip

    def _introduce(self, infos: list[bytes]) -> None:
        for info in infos:
            length = 387 + int.from_bytes(info[385:387], "big")
            name = base64.b64encode(hashlib.sha256(info[:length]).digest()).translate(_TO_I2P).decode()
            for folder in self._folders:
                if (folder / "router.info").read_bytes() != info:
                    place = folder / "netDb" / f"r{name[0]}"
                    place.mkdir(parents=True, exist_ok=True)
                    (place / f"routerInfo-{name}.dat").write_bytes(info)

    async def _answer(self) -> bool:
        for port in self.bridges:
            sock = self.walls.stream_socket()
            try:
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            except OSError:
                return False
            finally:
                sock.close()
        return True

    def _why(self, what: str) -> str:
        return f"the routers {what}"


@asynccontextmanager
async def bridged(network: PrivateI2P, number: int, walls: Walled) -> AsyncIterator[int]:
    """Have a router's SAM bridge be on SAM_PORT of the loopback behind other walls while the block runs."""
    tasks: set[asyncio.Task[None]] = set()

    async def carried(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        sock = network.walls.stream_socket()
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", network.bridges[number]))
            there, out = await asyncio.open_connection(sock=sock)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pump(reader, out))
                    both.create_task(_pump(there, writer))
            finally:
                out.transport.abort()
        except OSError:
            sock.close()
        except asyncio.CancelledError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(carried, sock=walls.listen(SAM_PORT))
    try:
        yield SAM_PORT
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await server.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.write_eof()


def _complete(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 400

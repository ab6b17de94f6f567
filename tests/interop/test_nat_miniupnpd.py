"""Port mapping with a real router: miniupnpd and nftables, in a network namespace of the test's own.

Needs root, and Debian's miniupnpd-nftables, nftables and iproute2; without them it is skipped. In the
namespace a pair of virtual cables stands for LAN and WAN, so no packet leaves it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.aids.daemon import ROOT
from tests.aids.geth_tools import leash

PROGRAMS = ("unshare", "ip", "nft", "miniupnpd")
LAN, WAN = "192.168.77.1", "77.12.33.4"
RULES = """
table inet filter {
  chain miniupnpd {
  }
  chain prerouting_miniupnpd {
  }
  chain postrouting_miniupnpd {
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    jump prerouting_miniupnpd
  }
}
"""
CONFIG = f"""
ext_ifname=wan0
listening_ip=lan0
http_port=0
enable_upnp=yes
enable_natpmp=no
secure_mode=yes
uuid=00000000-0000-0000-0000-000000000001
allow 1024-65535 {LAN}/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""
SCRIPT = f"""
set -e
ip link set lo up
ip link add lan0 type veth peer name lan1
ip link add wan0 type veth peer name wan1
ip addr add {LAN}/24 dev lan0
ip addr add {WAN}/24 dev wan0
for each in lan0 lan1 wan0 wan1; do ip link set $each up; done
ip route add default dev lan0
nft -f "$1/rules"
miniupnpd -d -f "$1/config" -P "$1/pid" >"$1/miniupnpd.log" 2>&1 &
router=$!
trap 'kill $router; wait $router || true' EXIT
"$2" "$3"
"""
CLIENT = """
import asyncio, json, subprocess
from relay.discovery.nat import make_nat, parse_nat
from relay.discovery.nat import NatOptions, MappedNat
from relay.discovery.upnp import UpnpOptions, find_gateway
from relay.transports.sockets import SocketFactory, SocketRules
from tests.aids.until import until

def rules():
    listed = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
    return sorted(line.strip() for line in listed.splitlines() if "dnat" in line)

async def main():
    sockets, told = SocketFactory(SocketRules.anywhere()), []
    async def find():
        return await find_gateway(sockets, UpnpOptions(wait=1.0))
    nat = MappedNat(find, tcp=30303, udp=30304, rand=bytes, options=NatOptions(retry=0.2))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(nat.run(told.append))
        await until(lambda: told, "an address", 15)
        mapped = rules()
        task.cancel()
    first = told[0]
    print(json.dumps({"ip": first.ip, "tcp": first.tcp, "udp": first.udp, "told": len(told),
                      "last": told[-1], "mapped": mapped, "left": rules()}))

asyncio.run(main())
"""


def can_run() -> bool:
    if os.geteuid() != 0 or not all(map(shutil.which, PROGRAMS)):
        return False
    probe = "ip link add a0 type veth peer name a1 && nft list ruleset"
    found = subprocess.run(["unshare", "-n", "sh", "-c", probe], capture_output=True, check=False)
    return found.returncode == 0


def test_a_real_router_maps_both_ports_and_takes_them_back(tmp_path: Path) -> None:
    if not can_run():
        pytest.skip("needs root, network namespaces, nftables and miniupnpd")
    for name, text in (("rules", RULES), ("config", CONFIG), ("client.py", CLIENT)):
        (tmp_path / name).write_text(text)
    apart = [*leash(), "unshare", "--net", "--pid", "--fork", "--kill-child"]
    done = subprocess.run(
        [*apart, "bash", "-c", SCRIPT, "-", tmp_path, sys.executable, tmp_path / "client.py"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["ip"], found["tcp"], found["udp"]) == (WAN, 30303, 30304)
    assert len(found["mapped"]) == 2
    assert any(f"dnat ip to {LAN}:30303" in rule for rule in found["mapped"])
    assert any(f"dnat ip to {LAN}:30304" in rule for rule in found["mapped"])
    assert (found["told"], found["last"], found["left"]) == (2, None, [])

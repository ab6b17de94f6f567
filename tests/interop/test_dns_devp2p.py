"""Lists of nodes with go-ethereum's devp2p: each verifies what the other signs, and reads what it serves."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from eth_keyfile import create_keyfile_json

from relay.cli.main import main
from relay.protocols.dnsdisc.entries import Link
from tests.aids.dnsdisc import SIGNER, signed_tree, tree_records
from tests.aids.geth_tools import geth_folder

pytestmark = pytest.mark.geth

ROOT = Path(__file__).parents[2]
DOMAIN = "nodes.example.org"
URL = str(Link(SIGNER.public_key, DOMAIN))
OTHER = str(signed_tree("other.example.org")[1])
RECORDS = tree_records(200)
PASSWORD = b"pw"
# A network of its own, where port 53 is free and resolv.conf can name this host.
NAMESPACE = ("unshare", "--user", "--map-root-user", "--net", "--mount")
ENTER = 'ip link set lo up && mount --bind "$0" /etc/resolv.conf && exec "$@"'


def has_namespaces() -> bool:
    try:
        return (
            subprocess.run([*NAMESPACE, "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0
        )
    except OSError:
        return False


@pytest.fixture
def nodes(tmp_path):
    path = tmp_path / "list"
    path.mkdir()
    content = {each.node_id.hex(): {"seq": each.seq, "record": each.to_text()} for each in RECORDS}
    (path / "nodes.json").write_text(json.dumps(content))
    (tmp_path / "key").write_text(SIGNER.secret.hex())
    keystore = create_keyfile_json(SIGNER.secret, PASSWORD, kdf="pbkdf2", iterations=1000)
    (tmp_path / "keystore.json").write_text(json.dumps(keystore))
    return path


def devp2p(*words: object) -> str:
    done = subprocess.run(
        [geth_folder() / "devp2p", "dns", *map(str, words)],
        input=PASSWORD + b"\n",
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def devp2p_sign(folder: Path, *words: object) -> None:
    devp2p("sign", *words, folder, folder.parent / "keystore.json")


def pyrelay(*words: object) -> None:
    assert main(["dns", *map(str, words)]) == 0


def info(folder: Path) -> dict:
    return json.loads((folder / "enrtree-info.json").read_text())


def test_devp2p_believes_what_pyrelay_signs(nodes, capsys):
    pyrelay("sign", nodes, "--key", nodes.parent / "key", "--domain", DOMAIN, "--links", OTHER, "--json")
    ours = json.loads(capsys.readouterr().out)
    assert json.loads(devp2p("to-txt", nodes, "-")) == ours["txt"]  # it checks the signature first


def test_pyrelay_believes_what_devp2p_signs(nodes, capsys):
    devp2p_sign(nodes, "--domain", DOMAIN)
    devp2p("to-txt", nodes, nodes.parent / "txt.json")
    pyrelay("verify", nodes, nodes.parent / "txt.json", "--url", URL, "--json")
    found = json.loads(capsys.readouterr().out)
    assert [(each["ok"], each["records"], each["seq"]) for each in found] == [(True, 200, 1)] * 2


def test_both_sign_alike_and_count_on_from_one_another(nodes):
    pyrelay("sign", nodes, "--key", nodes.parent / "key", "--domain", DOMAIN, "--links", OTHER)
    ours = info(nodes)
    devp2p_sign(nodes, "--seq", 1)
    theirs = info(nodes)
    assert {**ours, "lastModified": ""} == {**theirs, "lastModified": ""}
    devp2p_sign(nodes)
    assert info(nodes)["seq"] == 2
    pyrelay("sign", nodes, "--key", nodes.parent / "key")
    assert info(nodes)["seq"] == 3
    devp2p("to-txt", nodes, "-")


@pytest.mark.skipif(not has_namespaces(), reason="this system makes no network namespaces for users")
@pytest.mark.parametrize("reader", ["devp2p", "pyrelay"])
async def test_zone_of_pyrelay_is_read_by_way_of_the_system_resolver(nodes, tmp_path, reader):
    """A DNS server on port 53 of a namespace serves our zone file to geth's client and to ours."""
    zone, out, resolv = tmp_path / "zone", tmp_path / "read", tmp_path / "resolv.conf"
    pyrelay("sign", nodes, "--key", tmp_path / "key", "--domain", DOMAIN, "--links", OTHER, "--zone", zone)
    resolv.write_text("nameserver 127.0.0.1\n")
    few = _few(nodes, tmp_path, zone)
    commands = {
        "devp2p": [geth_folder() / "devp2p", "dns", "sync", URL, out],
        "pyrelay": [
            sys.executable,
            "-m",
            "relay.cli.main",
            "dns",
            "sync",
            URL,
            "--out",
            out,
            "--rate",
            "100",
        ],
    }
    child = await asyncio.create_subprocess_exec(
        *NAMESPACE, "sh", "-c", ENTER, resolv, sys.executable, "-m", "tests.aids.dns_server", zone, DOMAIN,
        *commands[reader], cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(90):
        output, _ = await child.communicate()
    assert child.returncode == 0, output.decode()
    assert {**info(out), "lastModified": ""} == {**info(nodes), "lastModified": ""}
    content = json.loads((out / "nodes.json").read_text())
    assert {each["record"] for each in content.values()} == {each.to_text() for each in few}
    pyrelay("verify", out)
    devp2p("to-txt", out, "-")


def _few(nodes: Path, folder: Path, zone: Path) -> list:
    """Sign again with fewer records: geth's client asks three names a second."""
    few = sorted(RECORDS[:30], key=lambda record: record.node_id)
    content = {each.node_id.hex(): {"seq": each.seq, "record": each.to_text()} for each in few}
    (nodes / "nodes.json").write_text(json.dumps(content))
    pyrelay("sign", nodes, "--key", folder / "key", "--zone", zone)
    return few

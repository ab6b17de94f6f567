"""``pyrelay dns sync|verify|sign``: lists of nodes in the DNS (EIP-1459), in the formats of geth's devp2p."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from relay.app.datadir import parse_node_key, read_secret
from relay.app.outward import ways_out
from relay.app.torside import launched_addresses
from relay.cli.arguments import add_options, command_parser, given_options
from relay.cli.dns_files import (
    NODES,
    Folder,
    SignedList,
    is_folder,
    read_records,
    read_signed,
    write_folder,
    write_nodes,
    write_text,
)
from relay.observe.logs import LogOptions, configure
from relay.primitives.address import Address
from relay.primitives.errors import DecodeError, LocalError, UsageError
from relay.primitives.keys import NodeKey
from relay.protocols.dnsdisc.entries import LINK_PREFIX, MAX_SEQ, Link
from relay.protocols.dnsdisc.tree import Tree, make_tree
from relay.settings import Settings, load_settings
from relay.transports.policy import Mode
from relay.transports.sockets import SocketFactory, SocketRules

if TYPE_CHECKING:
    from relay.discovery.dns.download import Downloaded

NETWORK_FLAGS: Final = (
    "datadir", "config", "tor-proxy", "tor-proxy-remote-ok", "only-onion", "clearnet", "tor-launch",
    "tor-bridge", "tor-transport", "tor-vanguards",
    "dns-resolver",
)  # fmt: skip
MAX_RATE: Final = 100.0
ERRORS: Final = 1  # verbosity: this command tells by itself what goes wrong
_SHOWN_EVERY: Final = 25  # records


def run(argv: Sequence[str]) -> int:
    """Run one of the three; a list that is wrong or can't be read gives exit code 1."""
    parser = command_parser("dns", "Lists of nodes in the DNS (EIP-1459): read one, check one, make one.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="sync|verify|sign")
    _add_sync(actions)
    _add_verify(actions)
    _add_sign(actions)
    arguments = parser.parse_args(argv)
    actions_by_name = {"sync": _sync, "verify": _verify, "sign": _sign}
    return actions_by_name[arguments.action](arguments)


def _add_sync(actions: Any) -> None:  # noqa: ANN401 - argparse keeps its class to itself
    sync = actions.add_parser("sync", help="download a list and check it", allow_abbrev=False)
    sync.add_argument("url", type=_link, metavar="URL", help="enrtree://KEY@DOMAIN")
    sync.add_argument(
        "--out", type=Path, metavar="PATH",
        help="nodes.json, or a folder for nodes.json and enrtree-info.json (default: a folder named as the"
        " domain)",
    )  # fmt: skip
    sync.add_argument("--json", action="store_true", help="print {url, seq, links, nodes}")
    _add_network(sync)


def _add_verify(actions: Any) -> None:  # noqa: ANN401
    verify = actions.add_parser("verify", help="check lists, entry for entry", allow_abbrev=False)
    verify.add_argument(
        "lists", nargs="+", metavar="LIST", help="URL, folder, zone file, or JSON of devp2p dns to-txt"
    )
    verify.add_argument("--url", type=_link, metavar="URL", help="the list that files must be")
    verify.add_argument("--json", action="store_true", help="print [{list, ok, url, seq, records, links}]")
    _add_network(verify)


def _add_sign(actions: Any) -> None:  # noqa: ANN401
    sign = actions.add_parser("sign", help="make a list, signed, and a zone file", allow_abbrev=False)
    sign.add_argument(
        "nodes", nargs="+", metavar="NODES",
        help="enr:..., a file of records (nodes.json, an array, one a line), or a folder: that is signed in"
        " place, with the next sequence number",
    )  # fmt: skip
    sign.add_argument("--key", type=Path, required=True, metavar="FILE", help="64 hex digits, as a node key")
    sign.add_argument("--domain", metavar="NAME", help="where the list will be (default: the folder's)")
    sign.add_argument("--seq", type=_seq, metavar="N", help="sequence number (default: the next, or 1)")
    sign.add_argument(
        "--links", nargs="+", type=_link, metavar="URL", help="other lists to name (default: the folder's)"
    )
    sign.add_argument(
        "--zone", type=Path, metavar="FILE", help="write a zone file for a DNS server; - prints"
    )
    sign.add_argument("--out", type=Path, metavar="DIR", help="write a folder, as devp2p dns sign does")
    sign.add_argument("--json", action="store_true", help="print {url, seq, records, links, txt}")


def _add_network(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group("asking")
    own.add_argument("--rate", type=_rate, default=10.0, metavar="N", help="questions a second (default: 10)")
    add_options(parser, NETWORK_FLAGS)


# -- sync ----------------------------------------------------------------------------------------------


def _sync(arguments: argparse.Namespace) -> int:
    found = _download(arguments, arguments.url)
    if arguments.out is not None or not arguments.json:
        _write(found, arguments.out or Path(found.link.domain))
    if arguments.json:
        print(json.dumps(_downloaded(found)))
    return 0


def _downloaded(found: Downloaded) -> dict[str, Any]:
    return {
        "url": str(found.link),
        "seq": found.root.seq,
        "links": [str(each) for each in found.links],
        "nodes": [each.to_text() for each in found.records],
    }


def _write(found: Downloaded, path: Path) -> None:
    if path.suffix == ".json":
        write_nodes(path, found.records)
    else:
        write_folder(path, found.link, found.root, found.links)
        write_nodes(path / NODES, found.records)
    print(
        f"{path}: {len(found.records)} nodes, {len(found.links)} links, sequence number {found.root.seq}",
        file=sys.stderr,
    )


def _download(arguments: argparse.Namespace, link: Link) -> Downloaded:
    configure(LogOptions(verbosity=ERRORS))
    settings = load_settings(given_options(arguments))
    return asyncio.run(_read_list(settings, link, arguments.rate))


async def _read_list(settings: Settings, link: Link, rate: float) -> Downloaded:
    # Imported when asked for: signing needs no dnspython.
    from relay.discovery.dns.download import download  # noqa: PLC0415
    from relay.discovery.dns.resolvers import make_resolver  # noqa: PLC0415

    mode, proxy = _mode(settings)
    rules = SocketRules.only(proxy) if proxy is not None else SocketRules.of_mode(mode)
    sockets = SocketFactory(rules)
    tor = ways_out(mode, sockets, proxy, tuple).lists
    resolver = make_resolver(mode, sockets, tor, settings.dns_resolver or (), rand=secrets.token_bytes)
    try:
        return await download(
            link,
            resolver,
            clock=asyncio.get_running_loop(),
            rand=secrets.token_bytes,
            rate=rate,
            progress=_show_progress,
        )
    except LocalError as error:
        hint = f" ({resolver.failure})" if resolver.failure else ""
        raise LocalError(f"{error}{hint}") from None
    finally:
        resolver.close()
        _end_progress()


def _mode(settings: Settings) -> tuple[Mode, Address | None]:
    """Where Tor is at hand this command asks through it, whatever the daemon does in the same mode."""
    proxy = settings.tor_proxy
    if settings.tor_launch:
        proxy, _ = launched_addresses(settings.datadir / "tor")
        if proxy is None:
            raise UsageError("--tor-launch: the daemon's Tor does not run; start it, or give --tor-proxy")
    if proxy is None:
        return settings.mode, None
    return (settings.mode if settings.mode.hides_ip else Mode.CLEARNET_TOR), proxy


def _show_progress(records: int) -> None:
    if sys.stderr.isatty() and records % _SHOWN_EVERY == 0:
        print(f"\r{records} nodes", end="", file=sys.stderr, flush=True)


def _end_progress() -> None:
    if sys.stderr.isatty():
        print("\r", end="", file=sys.stderr, flush=True)


# -- verify --------------------------------------------------------------------------------------------


def _verify(arguments: argparse.Namespace) -> int:
    results = [_verdict(arguments, word) for word in arguments.lists]
    if arguments.json:
        print(json.dumps(results))
    else:
        for result in results:
            print(_in_words(result))
    return 0 if all(result["ok"] for result in results) else 1


def _verdict(arguments: argparse.Namespace, word: str) -> dict[str, Any]:
    try:
        return {"list": word, "ok": True} | _checked(arguments, word)
    except UsageError:
        raise
    except LocalError as error:
        return {"list": word, "ok": False, "error": str(error)}


def _checked(arguments: argparse.Namespace, word: str) -> dict[str, Any]:
    if word.startswith(LINK_PREFIX):
        found = _download(arguments, _link_of(word))
        return _summary(found.link, found.root.seq, len(found.records), len(found.links))
    signed = read_signed(Path(word), arguments.url)
    tree = signed.tree
    return _summary(signed.link, tree.root.seq, len(tree.records), len(tree.links))


def _summary(link: Link, seq: int, records: int, links: int) -> dict[str, Any]:
    return {"url": str(link), "seq": seq, "records": records, "links": links}


def _in_words(result: dict[str, Any]) -> str:
    if not result["ok"]:
        return f"FAILED  {result['list']}: {result['error'].removeprefix(result['list'] + ': ')}"
    counts = f"sequence number {result['seq']}, {result['records']} records, {result['links']} links"
    return f"ok      {result['list']}: {counts}, signed by {result['url']}"


# -- sign ----------------------------------------------------------------------------------------------


def _sign(arguments: argparse.Namespace) -> int:
    target = _target(arguments)
    before = Folder.load(target) if target is not None else Folder()
    key = _key(arguments.key)
    seq = arguments.seq if arguments.seq is not None else before.seq + 1
    links = tuple(arguments.links) if arguments.links is not None else before.links
    signed = _signed(arguments, key, before, seq, links)
    _write_signed(arguments, target, signed)
    if arguments.json:
        print(json.dumps(_described(signed)))
    elif str(arguments.zone) != "-":
        print(signed.link)
    return 0


def _target(arguments: argparse.Namespace) -> Path | None:
    """The folder to write: the one that was named, or the one that the nodes are in."""
    if arguments.out is not None:
        return Path(arguments.out)
    folders = [Path(word) for word in arguments.nodes if is_folder(word)]
    if len(folders) > 1:
        raise UsageError("several folders: tell by --out which one to write")
    return folders[0] if folders else None


def _signed(
    arguments: argparse.Namespace, key: NodeKey, before: Folder, seq: int, links: tuple[Link, ...]
) -> SignedList:
    domain = arguments.domain or (before.link.domain if before.link is not None else None)
    if domain is None:
        raise UsageError("--domain is needed: the name in the DNS where the list will be")
    try:
        tree, link = make_tree(read_records(arguments.nodes), links, seq).sign(key, domain)
    except DecodeError as error:
        raise UsageError(f"the list can't be made: {error}") from None
    return SignedList(link, tree)


def _write_signed(arguments: argparse.Namespace, target: Path | None, signed: SignedList) -> None:
    tree, link = signed.tree, signed.link
    if target is not None:
        write_folder(target, link, tree.root, tree.links)
        write_nodes(target / NODES, tree.records)
    if arguments.zone is not None:
        write_text(arguments.zone, _zone_text(tree, link))


def _zone_text(tree: Tree, link: Link) -> str:
    return f"; {link}\n" + tree.zone_file(link.domain)


def _described(signed: SignedList) -> dict[str, Any]:
    tree = signed.tree
    counts = _summary(signed.link, tree.root.seq, len(tree.records), len(tree.links))
    return counts | {"txt": tree.texts(signed.link.domain)}


def _key(path: Path) -> NodeKey:
    content = read_secret(path, required=True)
    assert content is not None
    if content.lstrip().startswith(b"{"):
        raise UsageError(f"{path}: an encrypted keystore; give the key itself, 64 hex digits (devp2p key)")
    return parse_node_key(content, path)


# -- arguments -----------------------------------------------------------------------------------------


def _link(text: str) -> Link:
    try:
        return Link.parse(text)
    except DecodeError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _link_of(text: str) -> Link:
    try:
        return Link.parse(text)
    except DecodeError as error:
        raise UsageError(str(error)) from None


def _seq(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 20 or not 0 < int(text) < MAX_SEQ:
        raise argparse.ArgumentTypeError(f"{text[:32]!r} is no sequence number")
    return int(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= MAX_RATE:
        raise argparse.ArgumentTypeError(f"{text[:32]!r} is not a rate from 0 to {MAX_RATE:g} a second")
    return rate

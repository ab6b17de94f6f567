"""The daemon's settings as a table: name, parser, default, help. Flags, TOML and environment come from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from relay.discovery.nat import parse_nat
from relay.primitives.node import Node
from relay.protocols.dnsdisc.entries import Link
from relay.settings import sources, values
from relay.settings.values import Parser


@dataclass(frozen=True, slots=True)
class Option:
    """One setting.

    Attributes:
        name: the flag without its dashes, and the key in TOML (a dot is a table).
        parse: text to value; raises UsageError.
        default: the text that stands where nothing was given; None for no value.
        metavar: what the help shows for the value; empty for a switch.
        group: heading in the help.
        text: one line of help.
        toml: the key in TOML where it can't be the name.
    """

    name: str
    parse: Parser
    default: str | None
    metavar: str
    group: str
    text: str
    toml: str = ""

    @property
    def attribute(self) -> str:
        """The field of Settings."""
        return self.name.replace("-", "_").replace(".", "_")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return "PYRELAY_" + self.attribute.upper()

    @property
    def toml_key(self) -> str:
        """The dotted key in the configuration file."""
        return self.toml or self.name

    @property
    def is_switch(self) -> bool:
        """Whether the flag stands alone, without a value."""
        return self.parse is values.boolean

    @property
    def is_number(self) -> bool:
        """Whether the value is one whole number."""
        return isinstance(self.parse, values.WholeNumber)

    @property
    def is_list(self) -> bool:
        """Whether the value is a list: commas in text, an array in TOML."""
        plain = self.parse in (values.eth_versions, values.dns_servers)
        return plain or isinstance(self.parse, values.Words | values.Items)


_PORT: Final = values.WholeNumber(0, 65535)
_PORT_ONE: Final = values.WholeNumber(1, 65535)
_HTTP_MODULES: Final = values.Words("eth", "net", "web3", "txpool", "admin", "rpc")

_B, _N, _T, _P, _D, _O = "basics", "network", "Tor", "peers", "discovery", "what it shows"

OPTIONS: Final[tuple[Option, ...]] = (
    Option("datadir", values.path, None, "DIR", _B, "keys and state (default: XDG data folder /pyrelay)"),
    Option("config", values.path, None, "FILE", _B, "TOML settings (default: DATADIR/pyrelay.toml if there)"),
    Option(
        "network", values.text, "mainnet", "NAME|FILE", _N, "mainnet, sepolia, hoodi or a geth genesis.json"
    ),
    Option(
        "listen-address",
        values.ip_address,
        "0.0.0.0",
        "IP",
        _N,
        "clearnet listener; none where IPs are hidden",
    ),
    Option("port", _PORT, "30303", "PORT", _N, "clearnet listener's port"),
    Option("eth-versions", values.eth_versions, "69,70,71", "LIST", _N, "eth versions that are offered"),
    Option("tor-proxy", values.destination, None, "ADDR", _T, "Tor's SOCKS5 proxy, HOST:PORT or unix:PATH"),
    Option("tor-proxy-remote-ok", values.boolean, "false", "", _T, "allow a Tor that is not on this host"),
    Option("prefer-tor", values.boolean, "false", "", _T, "dial the onion first where a peer has both"),
    Option("only-onion", values.boolean, "false", "", _T, "nothing outside Tor, onion peers only"),
    Option(
        "clearnet",
        values.one_of("direct", "tor", "off"),
        None,
        "HOW",
        _T,
        "how IP peers are dialed: direct, tor (exits), off",
    ),
    Option("tor-control", values.destination, None, "ADDR", _T, "Tor's control port (default: probed)"),
    Option("tor-password-file", values.path, None, "FILE", _T, "password of the control port"),
    Option("tor-launch", values.boolean, "false", "", _T, "start an own tor in DATADIR/tor"),
    Option("onion-service", values.one_of("auto", "off"), "auto", "auto|off", _T, "publish an onion service"),
    Option("onion-port", _PORT_ONE, "30303", "PORT", _T, "public port of the onion service"),
    Option(
        "onion-listen",
        values.address,
        None,
        "ADDR",
        _T,
        "where Tor delivers (default: 127.0.0.1, a free port)",
    ),
    Option(
        "onion-target",
        values.destination,
        None,
        "ADDR",
        _T,
        "the target that Tor is told (default: the listener)",
    ),
    Option(
        "onion-address",
        values.onion_address,
        None,
        "ONION",
        _T,
        "an address served by torrc instead; needs --onion-listen",
    ),
    Option(
        "nodekey", values.path, None, "FILE", _P, "secp256k1 key, 64 hex digits (default: DATADIR/nodekey)"
    ),
    Option(
        "onion-key",
        values.path,
        None,
        "FILE",
        _P,
        "ed25519 key, tor's file format (default: DATADIR/onion_key)",
    ),
    Option(
        "static-nodes",
        values.path,
        None,
        "FILE",
        _P,
        "peers always kept (default: DATADIR/static-nodes.json)",
    ),
    Option(
        "trusted-nodes",
        values.path,
        None,
        "FILE",
        _P,
        "peers above the limits (default: DATADIR/trusted-nodes.json)",
    ),
    Option("maxpeers", values.WholeNumber(0, 10_000), "50", "N", _P, "peers at most"),
    Option("maxpendpeers", values.WholeNumber(1, 10_000), "50", "N", _P, "handshakes under way at most"),
    Option("dial-ratio", values.WholeNumber(1, 1_000), "3", "N", _P, "one in N peers is dialed by us"),
    Option(
        "discovery",
        values.Words("off", *sources.ALL),
        None,
        "LIST",
        _D,
        "where peers are found: off, v4, v5, dns, onion, dht (default: all that the mode allows)",
    ),
    Option(
        "bootnodes",
        values.Items(Node.parse),
        None,
        "LIST",
        _D,
        "enodes and records to enter by (default: the network's own)",
    ),
    Option("nat", parse_nat, "none", "HOW", _D, "none, extip:IP, any, upnp: how our IP gets known"),
    Option(
        "dns-lists",
        values.Items(Link.parse),
        None,
        "LIST",
        _D,
        "enrtree:// lists of nodes (default: the network's own)",
    ),
    Option(
        "dns-resolver",
        values.dns_servers,
        None,
        "LIST",
        _D,
        "tcp://IP:PORT, tls://HOST, https://HOST/PATH (default: the system's; public ones through Tor)",
    ),
    Option("metrics.addr", values.ip_address, "127.0.0.1", "IP", _O, "metrics and health page"),
    Option("metrics.port", _PORT, "6060", "PORT", _O, "its port"),
    Option("http", values.boolean, "false", "", _O, "JSON-RPC over HTTP", toml="http.enabled"),
    Option("http.addr", values.ip_address, "127.0.0.1", "IP", _O, "its address"),
    Option("http.port", _PORT, "8545", "PORT", _O, "its port"),
    Option(
        "http.api", _HTTP_MODULES, "eth,net,web3", "LIST", _O, "its modules; admin only if you ask for it"
    ),
    Option("ipcpath", values.path, None, "FILE", _O, "JSON-RPC socket (default: DATADIR/pyrelay.ipc)"),
    Option(
        "log-format",
        values.one_of("text", "json"),
        None,
        "text|json",
        _O,
        "default: text on a terminal, else json",
    ),
    Option(
        "verbosity",
        values.WholeNumber(0, 5),
        "3",
        "0-5",
        _O,
        "0 silent, 1 error, 2 warn, 3 info, 4 debug, 5 trace",
    ),
    Option("log-addresses", values.boolean, "false", "", _O, "log peers' addresses in only-onion, too"),
)

BY_NAME: Final = {option.name: option for option in OPTIONS}
BY_TOML_KEY: Final = {option.toml_key: option for option in OPTIONS}

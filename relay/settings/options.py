"""The daemon's settings as a table: name, parser, default, help. Flags, TOML and environment come from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from relay.discovery.nat import parse_nat
from relay.primitives.node import Node
from relay.protocols.dnsdisc.entries import Link
from relay.rpc.upstream.policy import check_pattern
from relay.settings import sources, tor_values, values
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
        repeats: whether the flag may be given several times, which makes a list of all.
    """

    name: str
    parse: Parser
    default: str | None
    metavar: str
    group: str
    text: str
    toml: str = ""
    repeats: bool = False

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
        plain = self.parse in (values.eth_versions, values.dns_servers, values.upstreams)
        return plain or self.repeats or isinstance(self.parse, values.Words | values.Items)


_PORT: Final = values.WholeNumber(0, 65535)
_PORT_ONE: Final = values.WholeNumber(1, 65535)
_HTTP_MODULES: Final = values.Words(
    "eth", "net", "web3", "txpool", "admin", "rpc", "debug", "trace", "ots", "erigon"
)
_PATTERNS: Final = values.Items(check_pattern)
_ORIGINS: Final = values.Items(values.text)

_B, _N, _T, _P, _D, _O = "basics", "network", "Tor", "peers", "discovery", "what it shows"
_R = "JSON-RPC"
_I = "I2P"

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
    Option(
        "eth-versions", values.eth_versions, "68,69,70,71,72", "LIST", _N, "eth versions that are offered"
    ),
    Option("chain-cache", values.WholeNumber(1, 1 << 20), "64", "MIB", _N, "blocks held to answer requests"),
    Option(
        "request-patience", values.WholeNumber(1, 60), "4", "SECONDS", _N, "how long peers wait for blocks"
    ),
    Option(
        "range-step", values.WholeNumber(1, 1 << 20), "32", "N", _N, "blocks between updates of our range"
    ),
    Option(
        "beacon-api",
        values.beacon_api,
        None,
        "URL",
        _N,
        "consensus node that tells the head, above all peers",
    ),
    Option("blob-pool", values.WholeNumber(0, 1 << 20), "128", "MIB", _N, "blobs held; 0: none are relayed"),
    Option("tor-proxy", values.destination, None, "ADDR", _T, "Tor's SOCKS5 proxy, HOST:PORT or unix:PATH"),
    Option("tor-proxy-remote-ok", values.boolean, "false", "", _T, "allow a Tor that is not on this host"),
    Option("prefer-tor", values.boolean, "false", "", _T, "dial the onion where a peer has both"),
    Option("single-identity", values.boolean, "false", "", _T, "one node key for both networks: links them"),
    Option(
        "adaptive-transport",
        values.boolean,
        "false",
        "",
        _T,
        "clearnet fetches new blocks, whole, that onion peers may ask for",
    ),
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
    Option(
        "tor-bridge",
        tor_values.bridges,
        "",
        "LINE",
        _T,
        "own tor: enter by this bridge, [TRANSPORT] IP:PORT [FINGERPRINT] [KEY=VALUE ...]; repeatable",
        repeats=True,
    ),
    Option(
        "tor-transport",
        tor_values.pluggable_transports,
        "",
        "NAME=PATH",
        _T,
        "own tor: the program of a bridge's transport, obfs4=/usr/bin/obfs4proxy; repeatable",
        repeats=True,
    ),
    Option(
        "tor-vanguards",
        values.one_of("lite", "off"),
        None,
        "lite|off",
        _T,
        "own tor: keep to few second hops",
    ),
    Option(
        "tor-rotate-circuits",
        values.Duration(10),
        "0",
        "DURATION",
        _T,
        "dial peers anew by Tor after about so long, one at a time: 30m, 6h, 2d; 0: never",
    ),
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
    Option("onion-pow", values.one_of("auto", "off"), "auto", "auto|off", _T, "proof of work under load"),
    Option("onion-max-streams", _PORT, "16", "N", _T, "streams of one visitor's circuit; 0: no limit"),
    Option(
        "onion-intro-points",
        values.WholeNumber(1, 20),
        None,
        "N",
        _T,
        "own tor: introduction points (default: 3)",
    ),
    Option(
        "onion-circuit-ids",
        values.one_of("auto", "on", "off"),
        "auto",
        "HOW",
        _T,
        "limits for each visitor's circuit; auto: with the own tor; on: torrc exports circuit ids",
    ),
    Option(
        "onion-auth-clients", values.path, None, "FILE", _T, "x25519 keys, one a line: nobody else finds us"
    ),
    Option(
        "onion-auth-keys", values.path, None, "FILE|DIR", _T, "our keys to private onions (.auth_private)"
    ),
    Option(
        "i2p-sam", values.destination, None, "ADDR", _I, "SAM bridge of an I2P router, HOST:PORT or unix:PATH"
    ),
    Option("i2p-sam-remote-ok", values.boolean, "false", "", _I, "allow a router that is not on this host"),
    Option("only-i2p", values.boolean, "false", "", _I, "nothing outside I2P, I2P peers only"),
    Option("i2p-hops", values.WholeNumber(0, 7), "3", "N", _I, "routers in each of our tunnels"),
    Option("i2p-key", values.path, None, "FILE", _I, "our destination's key (default: DATADIR/i2p_key)"),
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
        "where peers are found: off, v4, v5, dns, onion, dht, i2p (default: all that the mode allows)",
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
    Option("metrics.addr", values.ip_or_unix, "127.0.0.1", "IP|unix:PATH", _O, "metrics and health page"),
    Option("metrics.port", _PORT, "6060", "PORT", _O, "its port"),
    Option("http", values.boolean, "false", "", _O, "JSON-RPC over HTTP", toml="http.enabled"),
    Option("http.addr", values.ip_or_unix, "127.0.0.1", "IP|unix:PATH", _O, "its address"),
    Option("http.port", _PORT, "8545", "PORT", _O, "its port"),
    Option(
        "http.api", _HTTP_MODULES, "eth,net,web3", "LIST", _O, "its modules; admin only if you ask for it"
    ),
    Option("http.corsdomain", _ORIGINS, "", "LIST", _O, "pages that may read answers, * for all"),
    Option("http.vhosts", _ORIGINS, "localhost", "LIST", _O, "host names that are served, * for all"),
    Option(
        "http.jwtsecret", values.path, None, "FILE", _O, "callers of http and ws need a token of this secret"
    ),
    Option("ws", values.boolean, "false", "", _O, "JSON-RPC over WebSocket", toml="ws.enabled"),
    Option("ws.addr", values.ip_or_unix, "127.0.0.1", "IP|unix:PATH", _O, "its address"),
    Option("ws.port", _PORT, "8546", "PORT", _O, "its port; may be that of http"),
    Option("ws.api", _HTTP_MODULES, "eth,net,web3", "LIST", _O, "its modules"),
    Option("ws.origins", _ORIGINS, "", "LIST", _O, "pages that may connect, * for all"),
    Option(
        "rpc-upstream",
        values.upstreams,
        "",
        "LIST",
        _R,
        "nodes asked for what we lack: http, https, ws, wss, /PATH",
    ),
    Option(
        "rpc-balance",
        values.one_of("ordered", "balanced"),
        "ordered",
        "HOW",
        _R,
        "the first that works, or all in turn",
    ),
    Option(
        "rpc-hedge",
        values.WholeNumber(0, 60_000),
        "0",
        "MS",
        _R,
        "ask a second one after this long; 0: never",
    ),
    Option(
        "rpc-cache",
        values.WholeNumber(0, 1 << 20),
        "32",
        "MIB",
        _R,
        "answers of finalized blocks that are kept",
    ),
    Option(
        "rpc-allow",
        _PATTERNS,
        "",
        "LIST",
        _R,
        "methods that http and ws serve (default: all), such as eth_*,debug_trace*",
    ),
    Option("rpc-deny", _PATTERNS, "", "LIST", _R, "methods that they do not, whatever is allowed"),
    Option("rpc-rate", values.rate, "0", "N[/s]", _R, "calls of one client; 0: no limit"),
    Option(
        "also-submit-upstream",
        values.boolean,
        "false",
        "",
        _R,
        "show our users' transactions to the upstreams, too",
    ),
    Option(
        "private-broadcast",
        values.one_of("on", "off", "auto"),
        "auto",
        "HOW",
        _R,
        "our users' transactions go out on short connections that can't be traced to us; auto: with Tor",
    ),
    Option(
        "private-broadcast-journal",
        values.one_of("off", "encrypted"),
        "off",
        "HOW",
        _R,
        "what waits is kept over restarts: off, or encrypted with a key in DATADIR, so hardly a secret",
    ),
    Option(
        "dandelion",
        values.one_of("on", "off", "auto"),
        "auto",
        "HOW",
        _R,
        "our users' transactions pass through other pyrelays first; auto: where none is broadcast privately",
    ),
    Option(
        "tx-trickle",
        values.WholeNumber(0, 60_000),
        "0",
        "MS",
        _P,
        "peers are told of transactions after so long on the average, who came in 2.5 times that; 0: at once",
    ),
    Option(
        "tx-padding",
        values.WholeNumber(0, 4096),
        "0",
        "BYTES",
        _P,
        "up to so many random bytes beside transactions that pyrelays send each other; 0: none",
    ),
    Option(
        "verdict",
        values.one_of("none", "upstream"),
        "none",
        "WHO",
        _R,
        "who rules on peers' transactions before they go on: none, or the upstream by taking them",
    ),
    Option(
        "peer-tx-rate",
        values.WholeNumber(0, 1_000_000),
        "2000",
        "N",
        _P,
        "transactions a second that a peer may bring; beyond, it is read more slowly; 0: no limit",
    ),
    Option(
        "tx-rate",
        values.WholeNumber(0, 1_000_000),
        "10000",
        "N",
        _P,
        "the same of all peers together",
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

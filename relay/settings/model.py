"""The daemon's settings: frozen, checked against each other, with the mode that they amount to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from relay.discovery.dns.servers import DnsServer
from relay.discovery.nat import NatChoice
from relay.primitives.address import Address, TcpAddress, unix_address
from relay.primitives.errors import UsageError
from relay.rpc.meters import Rate
from relay.rpc.upstream.options import Balance
from relay.rpc.upstream.urls import UpstreamUrl
from relay.settings import sources
from relay.settings.i2p_rules import check_i2p_settings, i2p_warnings
from relay.settings.tor_rules import check_tor_settings, onion_warnings
from relay.settings.values import is_loopback, listener
from relay.tor.bridges import Bridge, Transport
from relay.transports.policy import Mode

Clearnet = Literal["direct", "tor", "off"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for. Field docs: relay/settings/options.py, one option a field.

    Raises:
        UsageError: settings that contradict each other; the text names both and the way out.
    """

    datadir: Path
    config: Path | None
    network: str
    listen_address: str
    port: int
    eth_versions: tuple[int, ...]
    blob_pool: int
    chain_cache: int
    request_patience: int
    range_step: int
    beacon_api: UpstreamUrl | None
    tor_proxy: Address | None
    tor_proxy_remote_ok: bool
    prefer_tor: bool
    single_identity: bool
    adaptive_transport: bool
    only_onion: bool
    clearnet: Clearnet | None
    tor_control: Address | None
    tor_password_file: Path | None
    tor_launch: bool
    tor_bridge: tuple[Bridge, ...]
    tor_transport: tuple[Transport, ...]
    tor_vanguards: Literal["lite", "off"] | None
    tor_rotate_circuits: int
    onion_service: Literal["auto", "off"]
    onion_port: int
    onion_listen: Address | None
    onion_target: Address | None
    onion_address: str | None
    onion_pow: Literal["auto", "off"]
    onion_max_streams: int
    onion_intro_points: int | None
    onion_circuit_ids: Literal["auto", "on", "off"]
    onion_auth_clients: Path | None
    onion_auth_keys: Path | None
    i2p_sam: Address | None
    i2p_sam_remote_ok: bool
    only_i2p: bool
    i2p_hops: int
    i2p_key: Path | None
    nodekey: Path | None
    onion_key: Path | None
    static_nodes: Path | None
    trusted_nodes: Path | None
    maxpeers: int
    maxpendpeers: int
    dial_ratio: int
    discovery: tuple[str, ...] | None
    bootnodes: tuple[str, ...] | None
    nat: NatChoice
    dns_lists: tuple[str, ...] | None
    dns_resolver: tuple[DnsServer, ...] | None
    metrics_addr: str
    metrics_port: int
    http: bool
    http_addr: str
    http_port: int
    http_api: tuple[str, ...]
    http_corsdomain: tuple[str, ...]
    http_vhosts: tuple[str, ...]
    http_jwtsecret: Path | None
    ws: bool
    ws_addr: str
    ws_port: int
    ws_api: tuple[str, ...]
    ws_origins: tuple[str, ...]
    rpc_upstream: tuple[UpstreamUrl, ...]
    rpc_balance: Balance
    rpc_hedge: int
    rpc_cache: int
    rpc_allow: tuple[str, ...]
    rpc_deny: tuple[str, ...]
    rpc_rate: Rate | None
    also_submit_upstream: bool
    private_broadcast: Literal["on", "off", "auto"]
    private_broadcast_journal: Literal["off", "encrypted"]
    dandelion: Literal["on", "off", "auto"]
    tx_trickle: int
    tx_padding: int
    verdict: Literal["none", "upstream"]
    peer_tx_rate: int
    tx_rate: int
    ipcpath: Path | None
    log_format: Literal["text", "json"] | None
    verbosity: int
    log_addresses: bool

    def __post_init__(self) -> None:
        check_i2p_settings(self)
        self._check_tor_given()
        self._check_tor_is_one()
        self._check_clearnet()
        self._check_tor_is_local()
        self._check_onion()
        check_tor_settings(self)
        self._check_ipc_path()
        self._check_discovery()
        self._check_upstreams()

    @property
    def has_tor(self) -> bool:
        """Whether there is a Tor at all."""
        return self.tor_proxy is not None or self.tor_launch

    @property
    def mode(self) -> Mode:
        """The mode that the flags amount to."""
        if not self.has_tor:
            return Mode.ONLY_I2P if self.only_i2p else Mode.NO_TOR
        if self.only_onion or self.clearnet == "off":
            return Mode.ONLY_ONION
        if self.clearnet == "tor":
            return Mode.CLEARNET_TOR
        return Mode.PREFER_TOR if self.prefer_tor else Mode.DEFAULT

    @property
    def has_two_identities(self) -> bool:
        """Whether clearnet sees one node and the onion network another (`relay.settings.identities`)."""
        return self.mode in (Mode.DEFAULT, Mode.PREFER_TOR) and not self.single_identity

    @property
    def broadcasts_privately(self) -> bool:
        """Whether transactions of our own users leave without the pool, through Tor alone."""
        return self.has_tor and self.private_broadcast != "off"

    @property
    def begins_with_stems(self) -> bool:
        """Whether transactions of our own users pass from relay to relay before they are gossiped."""
        return self.dandelion == "on" or (self.dandelion == "auto" and not self.broadcasts_privately)

    @property
    def static_nodes_path(self) -> Path:
        """The file of peers that are always kept."""
        return self.static_nodes or self.datadir / "static-nodes.json"

    @property
    def trusted_nodes_path(self) -> Path:
        """The file of peers above the limits."""
        return self.trusted_nodes or self.datadir / "trusted-nodes.json"

    @property
    def ipc_path(self) -> Path:
        """The JSON-RPC socket."""
        return self.ipcpath or self.datadir / "pyrelay.ipc"

    @property
    def remote_proxy(self) -> bool:
        """Whether the proxy is on another host, which then sees what it is asked."""
        return self.tor_proxy is not None and not self.tor_proxy.is_local

    @property
    def remote_control(self) -> bool:
        """Whether the control port is on another host, which then gets the onion service's key."""
        return self.tor_control is not None and not self.tor_control.is_local

    @property
    def wants_onion_service(self) -> bool:
        """Whether peers shall be able to reach this relay by an onion address."""
        return self.has_tor and (self.onion_address is not None or self.onion_service == "auto")

    @property
    def is_private(self) -> bool:
        """Whether only chosen clients can find the onion service, so that its address is told to nobody."""
        return self.onion_auth_clients is not None

    @property
    def shows_circuits(self) -> bool:
        """Whether Tor writes a line with its circuit's id before each connection to the onion service."""
        if self.onion_circuit_ids == "auto":
            return self.tor_launch and self.onion_service == "auto"
        return self.onion_circuit_ids == "on"

    @property
    def sources(self) -> frozenset[str]:
        """Where peers are found: what was asked for, or what the mode has by itself."""
        if self.discovery is not None:
            return frozenset(self.discovery) - {"off"}
        found = sources.BY_MODE[self.mode]
        if self.is_private:  # whoever is told the address learns that this relay exists
            found -= sources.TOR
        if self.i2p_sam is not None:
            found |= sources.I2P
        return found | {"dns"} if self.dns_lists else found

    def _what_both_show(self) -> list[str]:
        """Flags whose values peers of both identities see, where they are not what most relays have."""
        odd = {
            "--eth-versions": self.eth_versions != (68, 69, 70, 71, 72),
            "--range-step": self.range_step != 32,
            "--tx-trickle": self.tx_trickle > 0,
            "--tx-padding": self.tx_padding > 0,
            "--port and --onion-port": self.port == self.onion_port not in (0, 30303),
        }
        return [flag for flag, is_odd in odd.items() if is_odd]

    def _check_discovery(self) -> None:
        if self.discovery is not None:
            sources.check(
                self.discovery,
                self.mode,
                has_lists=bool(self.dns_lists),
                has_i2p=self.i2p_sam is not None,
            )
        self.nat.check_mode(self.mode)

    def _check_upstreams(self) -> None:
        if self.also_submit_upstream and not self.rpc_upstream:
            raise UsageError("--also-submit-upstream needs somebody to submit to: add --rpc-upstream URL")
        if self.verdict == "upstream" and not self.rpc_upstream:
            raise UsageError("--verdict upstream needs a node that rules: add --rpc-upstream URL")
        for place, url in enumerate(self.rpc_upstream, 1):
            self._check_reachable(
                url, f"--rpc-upstream: upstream {place}", "its unix socket, or its onion address"
            )
        if self.beacon_api is not None:
            self._check_reachable(self.beacon_api, "--beacon-api: it", "its onion address")

    def _check_reachable(self, url: UpstreamUrl, what: str, instead: str) -> None:
        if url.is_onion and not self.has_tor:
            raise UsageError(
                f"{what} is an onion service, which needs Tor:"
                " add --tor-proxy 127.0.0.1:9050, or --tor-launch"
            )
        if self.mode is Mode.ONLY_I2P and url.endpoint is not None:
            raise UsageError(
                f"{what} is outside I2P, and only-i2p reaches nothing else: give its unix socket"
            )
        if self.mode.hides_ip and url.endpoint is not None and url.endpoint.is_private:
            raise UsageError(
                f"{what} is on this host or its network, which Tor can't reach,"
                f" and {self.mode.value} reaches nothing else: give {instead}"
            )

    def _check_tor_is_one(self) -> None:
        if not self.tor_launch:
            return
        for given, flag in (
            (self.tor_proxy, "--tor-proxy"),
            (self.tor_control, "--tor-control"),
            (self.tor_password_file, "--tor-password-file"),
            (self.onion_address, "--onion-address"),
        ):
            if given is not None:
                raise UsageError(f"--tor-launch starts a Tor of our own: leave {flag} out, or --tor-launch")

    def _check_tor_given(self) -> None:
        if self.has_tor:
            return
        for wanted, flag in (
            (self.only_onion, "--only-onion"),
            (self.prefer_tor, "--prefer-tor"),
            (self.single_identity, "--single-identity"),
            (self.adaptive_transport, "--adaptive-transport"),
            (self.clearnet in ("tor", "off") and not self.only_i2p, f"--clearnet {self.clearnet}"),
            (self.tor_control is not None, "--tor-control"),
            (self.tor_password_file is not None, "--tor-password-file"),
            (self.tor_rotate_circuits > 0, "--tor-rotate-circuits"),
            (self.onion_address is not None, "--onion-address"),
            (self.onion_target is not None, "--onion-target"),
            (self.private_broadcast == "on", "--private-broadcast on"),
            (self.private_broadcast_journal != "off", "--private-broadcast-journal"),
        ):
            if wanted:
                raise UsageError(f"{flag} needs Tor: add --tor-proxy 127.0.0.1:9050, or --tor-launch")

    def _check_clearnet(self) -> None:
        if self.only_onion and self.clearnet not in (None, "off"):
            raise UsageError(f"--only-onion means --clearnet off: --clearnet {self.clearnet} contradicts it")
        if self.prefer_tor and (self.only_onion or self.clearnet in ("off", "tor")):
            other = "--only-onion" if self.only_onion else f"--clearnet {self.clearnet}"
            raise UsageError(f"--prefer-tor and {other} contradict each other: choose one")

    def _check_tor_is_local(self) -> None:
        if self.tor_proxy_remote_ok or not self.mode.hides_ip:
            return
        if self.remote_proxy:
            raise UsageError(
                f"--tor-proxy {self.tor_proxy} is not on this host: whoever runs it, and the wire to it, sees"
                " this relay. Use a Tor on this host, or add --tor-proxy-remote-ok if you know both"
            )
        if self.remote_control:
            raise UsageError(
                f"--tor-control {self.tor_control} is not on this host: the onion service's key would cross"
                " the wire. Use a Tor on this host, or add --tor-proxy-remote-ok if you know that wire"
            )

    def _check_onion(self) -> None:
        if self.onion_address is not None and self.onion_service == "off":
            raise UsageError("--onion-address and --onion-service off contradict each other: choose one")
        if self.onion_address is not None and self.onion_listen is None:
            raise UsageError(
                "--onion-address is served by torrc, so give what its HiddenServicePort leads to, too:"
                " --onion-listen 127.0.0.1:PORT or unix:PATH"
            )
        listener = self.onion_listen
        hides = self.mode.hides_ip or self.has_two_identities
        if listener is not None and listener.is_wildcard and hides:
            raise UsageError(
                f"--onion-listen {listener} is open on every interface, which tells who runs the onion"
                " service: use 127.0.0.1, unix:PATH or the address of the pod"
            )

    def _check_ipc_path(self) -> None:
        try:
            unix_address(str(self.ipc_path.absolute()))
        except UsageError as error:
            raise UsageError(f"{error}: give a shorter one by --ipcpath") from None

    @property
    def metrics_address(self) -> Address:
        """Where metrics and health are served."""
        return listener(self.metrics_addr, self.metrics_port)

    @property
    def http_address(self) -> Address:
        """Where JSON-RPC over HTTP is served, if it is."""
        return listener(self.http_addr, self.http_port)

    @property
    def ws_address(self) -> Address:
        """Where JSON-RPC over WebSocket is served, if it is."""
        return listener(self.ws_addr, self.ws_port)

    @property
    def onion_listener(self) -> Address:
        """The listener that Tor delivers to; port 0 is a free one."""
        return self.onion_listen or TcpAddress("127.0.0.1", 0)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know about what was chosen."""
        found = []
        if self.remote_proxy:
            found.append(f"the Tor proxy {self.tor_proxy} is not on this host: it sees what it is asked")
        if self.remote_control:
            found.append(
                f"the control port {self.tor_control} is not on this host:"
                " the onion service's key crosses the wire"
            )
        if self.mode is Mode.CLEARNET_TOR:
            found.append(
                "IP peers are dialed through Tor exits: an exit sees the peer's address and that somebody"
                " speaks devp2p with it, not who; exits are shared, so peers throttle them"
            )
        if self.mode in (Mode.DEFAULT, Mode.PREFER_TOR) and self.single_identity:
            found.append(
                "--single-identity: clearnet and onion are used with one node key: whoever sees both links"
                " this host's IP address to the onion address; leave it out, or use --only-onion"
            )
        if self.has_two_identities and (odd := self._what_both_show()):
            found.append(
                f"{' and '.join(odd)} as few others have it: both identities show it, which may link"
                " them; leave it at its default"
            )
        if self.onion_listen is not None and not self.onion_listen.is_local:
            found.append(f"--onion-listen {self.onion_listen} is not loopback: let only Tor reach it")
        exposed = {addr for on, addr in ((self.http, self.http_addr), (self.ws, self.ws_addr)) if on}
        for addr in sorted(each for each in exposed if not is_loopback(each)):
            if self.http_jwtsecret is None:
                found.append(f"JSON-RPC on {addr} is open to others: give --http.jwtsecret FILE")
        if not is_loopback(self.metrics_addr):
            found.append(
                f"--metrics.addr {self.metrics_addr}: whoever reaches it reads the onion address and"
                " all that is counted; let only the monitoring reach it"
            )
        found += onion_warnings(self)
        found += i2p_warnings(self)
        if self.also_submit_upstream:
            found.append("upstreams are shown the transactions of our own users: they learn who sends them")
        return tuple(found)

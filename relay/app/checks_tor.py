"""What a relay needs of Tor: the program, the SOCKS port, the control port, its network, the clock."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from relay.app.checkup import Case, Finding, Findings, TorFacts, broken, fine, idle, told, worth_a_look
from relay.app.torside import read_password
from relay.primitives.address import Address
from relay.primitives.endpoint import Endpoint, Network
from relay.primitives.errors import ConnectFailed, ProxyFailed, TorControlError, UsageError
from relay.tor.address import GROUP_REMEDY, probing
from relay.tor.bridges import check_programs
from relay.tor.control import CommandRefused, ControlOptions, TorControl
from relay.tor.control_protocol import parse_keywords
from relay.tor.process import find_tor, tor_version
from relay.tor.single_hop import SingleHopTor, refuse_single_hop
from relay.tor.version import FIRST_WITH_POW, OLDEST_SUPPORTED, TorVersion
from relay.transports.sockets import describe
from relay.transports.socks5 import RESOLVE, Credentials, SocksHandshake
from relay.transports.socks_dialer import exchange

NO_TOR: Final = "not asked for: no --tor-proxy, no --tor-launch"
NOT_STARTED: Final = "--tor-launch starts it, and no daemon runs"
START_TOR: Final = "start Tor: sudo systemctl enable --now tor (or let pyrelay start one: --tor-launch)"
NEWER_TOR: Final = f"install Tor {FIRST_WITH_POW} or newer, on Debian from deb.torproject.org"
NO_CONTROL: Final = (
    "put these lines into /etc/tor/torrc: ControlPort 9051, CookieAuthentication 1,"
    " CookieAuthFileGroupReadable 1; then: sudo systemctl restart tor"
)
NOT_SOCKS: Final = "give Tor's SocksPort as --tor-proxy, 127.0.0.1:9050 by default"
PATIENCE: Final = 3.0  # seconds for a proxy's first word
UNKNOWN_COMMAND: Final = 0x07
MOST_SKEW: Final = 60.0  # seconds that a clock may be ahead of or behind the consensus
_HERE: Final = Endpoint(Network.DNS, "127.0.0.1", 0)


async def check_tor_program(case: Case) -> Findings:
    """The tor binary and its version; it matters only for --tor-launch."""
    if not case.settings.has_tor:
        return [idle(NO_TOR)]
    try:
        path = find_tor()
        version = await tor_version(path)
        check_programs(case.settings.tor_transport)
    except UsageError as error:
        if case.settings.tor_launch:
            return [told(error)]
        return [fine("no tor program on this host: the one behind --tor-proxy counts")]
    return _judged_version(version, f"tor {version}, {path}")


def _judged_version(version: TorVersion, detail: str) -> Findings:
    if version < OLDEST_SUPPORTED:
        return [broken(f"{detail}: older than {OLDEST_SUPPORTED}", NEWER_TOR)]
    if version < FIRST_WITH_POW:
        return [worth_a_look(f"{detail}: too old for proof of work, which keeps floods off", NEWER_TOR)]
    return [fine(detail)]


async def check_proxy(case: Case) -> Findings:
    """Whether the proxy speaks SOCKS5, and is Tor; nothing is asked of the network."""
    if not case.settings.has_tor:
        return [idle(NO_TOR)]
    if case.proxy is None:
        return [idle(NOT_STARTED)]
    return await _asked_proxy(case, case.proxy)


async def _asked_proxy(case: Case, proxy: Address) -> Findings:
    try:
        sock = await case.sockets.open(proxy)
    except ConnectFailed as error:
        return [broken(f"nothing answers at {proxy}: {error}", START_TOR)]
    # Tor answers a RESOLVE of an address by itself, and no other proxy knows that command.
    handshake = SocksHandshake(_HERE, Credentials(b"pyrelay", b"doctor"), command=RESOLVE)
    try:
        await exchange(sock, handshake, PATIENCE)
    except ProxyFailed as error:
        if error.code == UNKNOWN_COMMAND:
            return [broken(f"{proxy} speaks SOCKS5, but is not Tor", NOT_SOCKS)]
        return [told(error, NOT_SOCKS)]
    except OSError as error:
        return [broken(f"{proxy} broke the connection off: {describe(error)}", NOT_SOCKS)]
    finally:
        sock.close()
    return [fine(f"{proxy} is Tor's SOCKS port")]


async def check_control(case: Case) -> Findings:
    """The control port: found, and open to us."""
    if not case.settings.has_tor:
        return [idle(NO_TOR)]
    if not case.control:
        return [idle(NOT_STARTED)]
    options = ControlOptions(
        command_deadline=PATIENCE, password=read_password(case.settings.tor_password_file)
    )
    try:
        async with TorControl.connect(probing(case.sockets.open_stream, case.control), options) as control:
            case.tor = await _facts(control)
            await refuse_single_hop(control)
            open_door = control.open_door
    except SingleHopTor as error:
        return [broken(str(error), "take both lines out of torrc: sudo systemctl restart tor afterwards")]
    except TorControlError as error:
        return [_judged_control(case, error)]
    return _judged_open(case.tor.version, open_door)


def _judged_open(version: TorVersion | None, open_door: str | None) -> Findings:
    if open_door is not None:
        risk, _, remedy = open_door.partition("; ")
        return [worth_a_look(risk, remedy)]
    if version is None:
        return [fine("authenticated")]
    return _judged_version(version, f"authenticated with tor {version}")


def _judged_control(case: Case, error: TorControlError) -> Finding:
    text = str(error)
    if GROUP_REMEDY in text:
        detail, remedy = text.replace(f"; {GROUP_REMEDY}", ""), GROUP_REMEDY
    elif "password" in text:
        detail, remedy = text, "give the file with its password: --tor-password-file FILE"
    elif isinstance(error, CommandRefused):
        detail, remedy = text, "the cookie or password is another Tor's: give the right --tor-control"
    else:
        detail, remedy = text, NO_CONTROL
    if (
        case.settings.wants_onion_service
        and case.settings.onion_address is None
        and case.settings.mode.hides_ip
    ):
        return broken(detail, remedy)
    return worth_a_look(f"{detail}: no onion service of ours without it", remedy)


async def _facts(control: TorControl) -> TorFacts:
    return TorFacts(
        version=TorVersion.find(control.info.tor_version),
        bootstrap=await _info(control, "status/bootstrap-phase"),
        live=(await _info(control, "network-liveness")).lower() != "down",
        valid_after=_time(await _info(control, "consensus/valid-after")),
        valid_until=_time(await _info(control, "consensus/valid-until")),
    )


async def _info(control: TorControl, key: str) -> str:
    """One value, empty where this Tor does not have it."""
    try:
        return await control.get_info(key)
    except TorControlError:
        if control.closed:
            raise
        return ""


def _time(text: str) -> float | None:
    with suppress(ValueError):
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    return None


async def check_bootstrap(case: Case) -> Findings:
    """Whether Tor has reached its network."""
    if case.tor is None:
        return [idle("not known without the control port")]
    fields = parse_keywords(case.tor.bootstrap)
    percent = fields.get("PROGRESS", "?")
    if percent != "100":
        said = f"{fields.get('SUMMARY', '')} {fields.get('WARNING', '')}".strip()
        return [
            broken(
                f"Tor has bootstrapped {percent}%: {said}",
                "wait a minute; if it stays: is this host online, is its clock right, does the network block"
                " Tor (then set bridges in torrc)? Tor's log: sudo journalctl -u tor@default",
            )
        ]
    if not case.tor.live:
        return [worth_a_look("bootstrapped, but Tor finds its network down", "is this host online?")]
    return [fine("bootstrapped 100%")]


async def check_clock(case: Case) -> Findings:
    """This host's clock beside the times of Tor's consensus; no server is asked."""
    if case.tor is None or case.tor.valid_after is None or case.tor.valid_until is None:
        return [idle("not known: no consensus of Tor to compare with")]
    now = case.now()
    ahead, behind = now - case.tor.valid_until, case.tor.valid_after - now
    if behind > MOST_SKEW:
        return [_wrong_clock(f"at least {_spoken(behind)} behind")]
    if ahead > MOST_SKEW:
        return [_wrong_clock(f"{_spoken(ahead)} ahead, or Tor has found no news for so long")]
    return [fine("agrees with Tor's consensus")]


def _wrong_clock(how: str) -> Finding:
    return broken(f"this host's clock is {how}", "set it: sudo timedatectl set-ntp true")


def _spoken(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"

"""Settings of the own Tor and of the onion service, checked against the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.primitives.errors import UsageError
from relay.settings import sources
from relay.tor.bridges import bridge_lines

if TYPE_CHECKING:
    from relay.settings.model import Settings


def check_tor_settings(given: Settings) -> None:
    """Refuse what no Tor, or not this one, can do.

    Raises:
        UsageError: names the flags and the way out.
    """
    _check_own_tor(given)
    _check_clients(given)
    if given.adaptive_transport and not given.has_two_identities:
        raise UsageError(
            "--adaptive-transport lets the node on clearnet fetch for the one on the onion network, so there"
            " have to be both: leave it out, or --single-identity, --only-onion and --clearnet tor|off"
        )
    if given.private_broadcast == "off" and given.private_broadcast_journal != "off":
        raise UsageError(
            "--private-broadcast-journal keeps what a private broadcast has not brought out, and"
            " --private-broadcast off has none: leave out one of them"
        )
    bridge_lines(given.tor_bridge, given.tor_transport)
    if given.onion_auth_keys is not None and not given.has_tor:
        raise UsageError("--onion-auth-keys needs Tor: add --tor-proxy 127.0.0.1:9050, or --tor-launch")
    if given.onion_circuit_ids == "on" and not given.tor_launch and given.onion_address is None:
        raise UsageError(
            "--onion-circuit-ids on: Tor tells circuits only of services in its configuration: use"
            " --tor-launch, or --onion-address with HiddenServiceExportCircuitID haproxy in torrc"
        )


def onion_warnings(given: Settings) -> list[str]:
    """What a person should know about these choices."""
    found = []
    if given.tor_vanguards == "off":
        found.append("--tor-vanguards off: who watches long enough finds this onion service's guards sooner")
    if given.adaptive_transport:
        found.append(
            "--adaptive-transport: who watches both identities for long may find that they belong together"
        )
    if given.has_two_identities and given.maxpeers == 1:
        found.append("--maxpeers 1: there are two identities, and each has a peer; --single-identity has one")
    if given.is_private and not given.mode.hides_ip:
        found.append("the onion service is for its clients only; on clearnet everybody can still join")
    return found


def _check_own_tor(given: Settings) -> None:
    if given.tor_launch:
        return
    for wanted, flag, instead in (
        (given.tor_bridge, "--tor-bridge", "Bridge lines go to its own torrc"),
        (given.tor_transport, "--tor-transport", "ClientTransportPlugin goes to its own torrc"),
        (given.tor_vanguards, "--tor-vanguards", "VanguardsLiteEnabled goes to its own torrc"),
        (
            given.onion_intro_points,
            "--onion-intro-points",
            "HiddenServiceNumIntroductionPoints goes to its own torrc, with --onion-address",
        ),
    ):
        if wanted:
            raise UsageError(
                f"{flag} is for a Tor of our own: add --tor-launch. A Tor that runs already: {instead}"
            )


def _check_clients(given: Settings) -> None:
    if given.onion_auth_clients is None:
        return
    flag = "--onion-auth-clients"
    if not given.has_tor:
        raise UsageError(f"{flag} needs Tor: add --tor-proxy 127.0.0.1:9050, or --tor-launch")
    if given.onion_address is not None:
        raise UsageError(
            f"{flag}: the service of --onion-address is torrc's: put its clients into authorized_clients"
            " of its HiddenServiceDir"
        )
    if given.onion_service == "off":
        raise UsageError(f"{flag} and --onion-service off contradict each other: choose one")
    told = set(given.discovery or ()) & sources.TOR
    if told:
        raise UsageError(
            f"{flag} hides this relay, and --discovery {','.join(sorted(told))} tells its address to"
            " strangers: leave it out, and name its peers in static-nodes.json"
        )

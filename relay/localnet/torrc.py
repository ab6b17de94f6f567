"""torrc lines of the private network's nodes: all on one address, everything as quick as Tor allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay.localnet.authority_keys import AuthorityIdentity
from relay.tor.torrc import quoted_path

LOOPBACK: Final = "127.0.0.1"
FIRST_INTERVAL: Final = 5  # seconds; Tor's minimum for TestingV3AuthInitialVotingInterval
VOTE_DELAY: Final = 2  # seconds; Tor's minimum, which the first interval cuts down to 1
DIST_DELAY: Final = 2  # seconds; likewise
MEASURED: Final = 10_000  # kilobytes/s; any value does, as it is the same for all


@dataclass(frozen=True, slots=True)
class Authority:
    """A directory authority as the others know it."""

    name: str
    or_port: int
    dir_port: int
    identity: AuthorityIdentity
    address: str = LOOPBACK

    @property
    def line(self) -> str:
        """Its DirAuthority line."""
        return (
            f"DirAuthority {self.name} orport={self.or_port} v3ident={self.identity.v3ident}"
            f" {self.address}:{self.dir_port} {self.identity.fingerprint}"
        )


def network_lines(authorities: Sequence[Authority]) -> list[str]:
    """What every node of the network shares, clients too: pass them to a Tor that is to join."""
    return [
        "TestingTorNetwork 1",
        *(authority.line for authority in authorities),
        "AssumeReachable 1",
        # a client of seven relays must not wait for the last descriptor
        "PathsNeededToBuildCircuits 0.6",
        # circuit times learned from loopback would take a busy moment for a dead relay
        "LearnCircuitBuildTimeout 0",
        "CircuitBuildTimeout 15",
        "ClientRejectInternalAddresses 0",
        "ClientDNSRejectInternalAddresses 0",
        # no country of anybody is asked for: saves 0.1 s of start and 20 MB each
        "GeoIPFile /dev/null",
        "GeoIPv6File /dev/null",
        "SafeLogging 0",
    ]


def node_lines(
    name: str, directory: Path, or_port: int, owner_pid: int, address: str = LOOPBACK
) -> list[str]:
    """What authorities and relays share."""
    return [
        f"Nickname {name}",
        f"DataDirectory {quoted_path(directory / 'data')}",
        f"Address {address}",
        f"ORPort {address}:{or_port}",
        "SocksPort 0",
        "NumCPUs 1",
        "AvoidDiskWrites 1",
        "ShutdownWaitLength 0",
        "Log notice stdout",
        f"__OwningControllerProcess {owner_pid}",
    ]


def authority_lines(
    authority: Authority, *, voting_interval: int, voting_offset: int, bandwidths: Path
) -> list[str]:
    """What makes a node an authority.

    Args:
        authority: this one.
        voting_interval: seconds from one consensus to the next, 10 or more, a divisor of half an hour.
        voting_offset: seconds that all votes are shifted by.
        bandwidths: the file of `bandwidth_file`.
    """
    return [
        f"DirPort {authority.address}:{authority.dir_port}",
        "AuthoritativeDirectory 1",
        "V3AuthoritativeDirectory 1",
        "ContactInfo nobody@localhost",
        f"TestingV3AuthInitialVotingInterval {FIRST_INTERVAL}",
        f"TestingV3AuthInitialVoteDelay {VOTE_DELAY}",
        f"TestingV3AuthInitialDistDelay {DIST_DELAY}",
        f"TestingV3AuthVotingStartOffset {voting_offset}",
        f"V3AuthVotingInterval {voting_interval}",
        f"V3AuthVoteDelay {VOTE_DELAY}",
        f"V3AuthDistDelay {DIST_DELAY}",
        # flags that need days of uptime on the public network
        "TestingDirAuthVoteGuard *",
        "TestingDirAuthVoteHSDir *",
        "TestingMinExitFlagThreshold 0",
        "AuthDirVoteStableGuaranteeMinUptime 0",
        "MinUptimeHidServDirectoryV2 0",
        # without measurements one node that tested itself first would carry nearly all the weight, be guard
        # and last hop of the same circuit, and refuse to be extended to itself: minutes of failures
        f"V3BandwidthsFile {quoted_path(bandwidths)}",
        "ExitRelay 0",
    ]


def bandwidth_file(fingerprints: Sequence[str], now_unix: float) -> str:
    """Measured bandwidths, equal for all, as a bandwidth authority writes them (bandwidth-file-spec, 1.0)."""
    return f"{int(now_unix)}\n" + "".join(f"node_id=${each} bw={MEASURED}\n" for each in fingerprints)


def relay_lines(*, exits: bool, resolver_file: Path) -> list[str]:
    """A relay's exit policy: none, or to loopback and nothing else. resolver_file: an empty resolv.conf."""
    if not exits:
        return ["ExitRelay 0"]
    return [
        "ExitRelay 1",
        "ExitPolicyRejectPrivate 0",
        # clients learn a summary only, in which an accepted private network does not count, so this has to
        # accept everything; the source address makes anything but loopback unreachable
        "ExitPolicy accept *:*",
        f"OutboundBindAddressExit {LOOPBACK}",
        # an exit asks resolvers by itself: this one has none to ask
        f"ServerDNSResolvConfFile {quoted_path(resolver_file)}",
        "ServerDNSAllowBrokenConfig 1",
        "ServerDNSDetectHijacking 0",
        "ServerDNSTestAddresses localhost",
    ]

"""Settings of I2P, checked against the others: which of its combinations there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relay.primitives.errors import UsageError

if TYPE_CHECKING:
    from relay.settings.model import Settings

DEFAULT_HOPS: Final = 3
_WAY_OUT: Final = "add --i2p-sam 127.0.0.1:7656"


def check_i2p_settings(given: Settings) -> None:
    """Refuse what I2P can not do, or what would link this host to its I2P address.

    Raises:
        UsageError: names the flags and the way out.
    """
    if given.i2p_sam is None:
        _check_without(given)
        return
    if given.only_i2p:
        _check_only(given)
    elif not given.has_tor:
        raise UsageError(
            "--i2p-sam beside clearnet, with one node key for both, would tell everybody whose I2P address it"
            " is: add --only-i2p, or Tor, whose identity I2P then belongs to: --tor-proxy 127.0.0.1:9050"
        )
    if given.is_private:
        raise UsageError(
            "--onion-auth-clients lets none but its clients find this relay, and I2P would show it to all:"
            " leave one of --onion-auth-clients and --i2p-sam out"
        )
    if not given.i2p_sam.is_local and not given.i2p_sam_remote_ok:
        raise UsageError(
            f"--i2p-sam {given.i2p_sam} is not on this host: the destination's key and all that peers say"
            " would cross the wire. Use a router on this host, or add --i2p-sam-remote-ok if you know it"
        )


def i2p_warnings(given: Settings) -> list[str]:
    """What a person should know about these choices."""
    found = []
    if given.i2p_sam is not None and not given.i2p_sam.is_local:
        found.append(f"the SAM bridge {given.i2p_sam} is not on this host: our I2P key crosses the wire")
    if given.i2p_sam is not None and given.i2p_hops < DEFAULT_HOPS:
        what = "peers see which router it is" if given.i2p_hops == 0 else "fewer than I2P's usual 3"
        found.append(f"--i2p-hops {given.i2p_hops}: {what}; for private networks and tests")
    if given.only_i2p:
        found.append(
            "over I2P each peer that is dialed sees our I2P address, and transactions of our own users leave"
            " by these peers: there is no private broadcast without Tor"
        )
    return found


def _check_without(given: Settings) -> None:
    for wanted, flag in (
        (given.only_i2p, "--only-i2p"),
        (given.i2p_sam_remote_ok, "--i2p-sam-remote-ok"),
        (given.i2p_hops != DEFAULT_HOPS, "--i2p-hops"),
        (given.i2p_key is not None, "--i2p-key"),
    ):
        if wanted:
            raise UsageError(f"{flag} needs the SAM bridge of an I2P router: {_WAY_OUT}")


def _check_only(given: Settings) -> None:
    for wanted, flag in (
        (given.tor_proxy is not None, "--tor-proxy"),
        (given.tor_launch, "--tor-launch"),
        (given.only_onion, "--only-onion"),
        (given.prefer_tor, "--prefer-tor"),
        (given.clearnet in ("direct", "tor"), f"--clearnet {given.clearnet}"),
        (bool(given.dns_lists), "--dns-lists"),
    ):
        if wanted:
            raise UsageError(
                f"--only-i2p means nothing outside I2P: {flag} contradicts it. Onion and I2P peers both:"
                " --only-onion --i2p-sam 127.0.0.1:7656"
            )

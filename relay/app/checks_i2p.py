"""What a relay needs of I2P: a router's SAM bridge that speaks our version, and a key that is one."""

from __future__ import annotations

from typing import Final

from relay.app.checkup import Case, Findings, fine, idle, told
from relay.app.datadir import read_i2p_key
from relay.primitives.errors import SamFailed
from relay.transports.i2p_bridge import SamBridge
from relay.transports.i2p_sam import REMEDY, VERSION

NO_I2P: Final = "no I2P: no --i2p-sam"
PATIENCE: Final = 4.0  # seconds for the bridge's greeting


async def check_i2p(case: Case) -> Findings:
    """The bridge greets us, and our key is one; nothing is asked of the network, and no session is made."""
    settings = case.settings
    if settings.i2p_sam is None:
        return [idle(NO_I2P)]
    try:
        sock = await SamBridge(case.sockets, settings.i2p_sam, patience=PATIENCE).open()
    except SamFailed as error:
        return [told(error, REMEDY)]
    sock.close()
    key = read_i2p_key(settings.datadir, settings.i2p_key)
    who = (
        "the router makes our address at the first start" if key is None else f"our address is {key.address}"
    )
    return [fine(f"{settings.i2p_sam} is a SAM bridge of version {VERSION}; {who}")]

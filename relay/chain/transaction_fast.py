"""The fast way to decode the common transactions: dynamic fee with no access list, and legacy.

The grammar of the fields up to the call data is a regular expression, which checks in one call that each
number is in its only form; what is left is read in a straight line. It accepts a part of what the table
accepts and reads it the same. It refuses nothing by itself: None sends the bytes the complete way.
"""

from __future__ import annotations

import re
from typing import Final

from relay.chain.transaction_value import DYNAMIC_FEE, LEGACY, Transaction, set_parity
from relay.primitives.errors import DecodeError
from relay.primitives.rlp import read_header

__all__ = ["decode_dynamic_fee", "decode_legacy"]


def _number_grammar(max_bytes: int) -> bytes:
    """Return the pattern of an RLP number in its only form, in one group with its header."""
    longer = (b"%b[^\\x00].{%d}" % (re.escape(bytes((0x80 + n,))), n - 1) for n in range(2, max_bytes + 1))
    return b"([\\x01-\\x80]|\\x81[\\x80-\\xff]|" + b"|".join(longer) + b")"


_HEADER: Final = b"(?:\\xf8.|\\xf9..)"
_WORD: Final = _number_grammar(8)
_WIDE: Final = _number_grammar(32)
_TO: Final = b"(?:\\x94(.{20})|\\x80)"

_match_dynamic_fee: Final = re.compile(
    # chain id, nonce, tip cap, fee cap, gas, to, value, data (whose header is looked at later)
    b"\\x02" + _HEADER + _WIDE + _WORD + _WIDE + _WIDE + _WORD + _TO + _WIDE + b"([\\x00-\\xbf].*)",
    re.DOTALL,
).fullmatch

_match_legacy: Final = re.compile(
    # nonce, gas price, gas, to, value; what follows has no fixed distance from the end
    _HEADER + _WORD + _WIDE + _WORD + _TO + _WIDE,
    re.DOTALL,
).match

_PARITIES: Final = (0x80, 0x01)

# By the length of a number with its header: what is left without the header. 0x80 alone is zero.
_NUMBER_MASK: Final = (0, 0x7F, *((1 << 8 * n) - 1 for n in range(1, 33)))


def decode_dynamic_fee(raw: bytes) -> Transaction | None:
    """Read the common form of type 2, or return None: perhaps another form, perhaps wrong."""
    size = len(raw)
    tail = size - 68  # an empty access list, y parity, r and s of 32 bytes; 1 in 128 has a shorter one
    match = _match_dynamic_fee(raw, 0, tail)
    if match is None or raw[tail] != 0xC0 or raw[tail + 2] != 0xA0 or raw[tail + 35] != 0xA0:
        return None
    chain_id, nonce, tip_cap, fee_cap, gas, to, value, data = match.groups()
    start = _fields_start(raw, 1, size)
    data_start = tail if data == b"\x80" else _data_start(data, tail)
    y_parity = raw[tail + 1]
    if not (start and data_start and raw[tail + 3] and raw[tail + 36] and y_parity in _PARITIES):
        return None
    read, mask = int.from_bytes, _NUMBER_MASK
    tx = Transaction.__new__(Transaction)
    tx.type = DYNAMIC_FEE
    tx.raw = raw
    tx.size = size
    tx.chain_id = read(chain_id, "big") & mask[len(chain_id)]
    tx.nonce = read(nonce, "big") & mask[len(nonce)]
    tx.tip_cap = read(tip_cap, "big") & mask[len(tip_cap)]
    tx.fee_cap = read(fee_cap, "big") & mask[len(fee_cap)]
    tx.gas = read(gas, "big") & mask[len(gas)]
    tx.to = to
    tx.value = read(value, "big") & mask[len(value)]
    tx.data_span = (data_start, tail)
    tx.access_list = (0, 0)
    tx.authorizations = tx.blob_fee_cap = 0
    tx.blob_hashes = ()
    tx.y_parity = y_parity & 1
    tx.signature = raw[tail + 3 : tail + 35] + raw[tail + 36 :]
    tx.signed_span = (start, tail + 1)
    tx.sidecar = tx._signer = tx._sender = None
    return tx


def decode_legacy(raw: bytes) -> Transaction | None:
    """Read the common form of a legacy transaction, or return None: perhaps another form, perhaps wrong."""
    match = _match_legacy(raw)
    size = len(raw)
    start = _fields_start(raw, 0, size) if match is not None else 0
    if match is None or not start:
        return None
    try:
        is_list, data_start, stop = read_header(raw, match.end(), size)
        v_is_list, v_start, v_stop = read_header(raw, stop, size)
    except DecodeError:
        return None
    if (
        is_list
        or v_is_list
        or v_stop - v_start > 8
        or v_stop != size - 66
        or raw[v_stop] != 0xA0
        or raw[v_stop + 33] != 0xA0
    ):
        return None
    if not (raw[v_start] and raw[v_stop + 1] and raw[v_stop + 34]):
        return None
    nonce, price, gas, to, value = match.groups()
    read, mask = int.from_bytes, _NUMBER_MASK
    tx = Transaction.__new__(Transaction)
    tx.type = LEGACY
    tx.raw = raw
    tx.size = size
    tx.chain_id = None
    tx.nonce = read(nonce, "big") & mask[len(nonce)]
    tx.tip_cap = tx.fee_cap = read(price, "big") & mask[len(price)]
    tx.gas = read(gas, "big") & mask[len(gas)]
    tx.to = to
    tx.value = read(value, "big") & mask[len(value)]
    tx.data_span = (data_start, stop)
    tx.access_list = (0, 0)
    tx.authorizations = tx.blob_fee_cap = 0
    tx.blob_hashes = ()
    tx.signature = raw[size - 65 : size - 33] + raw[size - 32 :]
    tx.signed_span = (start, stop)
    tx.sidecar = tx._signer = tx._sender = None
    set_parity(tx, read(raw[v_start:v_stop], "big"))
    return tx


def _fields_start(raw: bytes, pos: int, size: int) -> int:
    """Return where the fields begin behind the list header f8 or f9 at pos; 0 if its length is wrong."""
    if raw[pos] == 0xF8:
        return pos + 2 if raw[pos + 1] == size - pos - 2 > 55 else 0
    return pos + 3 if raw[pos + 1] << 8 | raw[pos + 2] == size - pos - 3 > 0xFF else 0


def _data_start(item: bytes, stop: int) -> int:
    """Return where the payload of a string item that ends at stop begins; 0 if its header is another's."""
    length = len(item)
    first = item[0]
    if length == 1:
        return stop - 1 if first < 0x80 else 0
    if first < 0xB8:
        fits = first == length + 0x7F and (length > 2 or item[1] > 0x7F)
        return stop - length + 1 if fits else 0
    if first == 0xB8:
        return stop - length + 2 if item[1] == length - 2 > 55 else 0
    if first == 0xB9:
        return stop - length + 3 if int.from_bytes(item[1:3], "big") == length - 3 > 0xFF else 0
    return 0

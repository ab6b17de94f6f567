import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.errors import DecodeError, TorControlError
from relay.primitives.onion import OnionKey
from relay.tor.client_auth import (
    MAX_CLIENTS,
    AuthorizedClient,
    OnionAccess,
    forget_access,
    give_access,
    parse_access,
    parse_clients,
)
from relay.tor.control import TorControl
from tests.aids.control_server import control_server

ONION = OnionKey.from_seed(bytes(range(32))).address
NAME = ONION.removesuffix(".onion")
ACCESS = OnionAccess(ONION, bytes(range(1, 33)))
LOW_ORDER = [bytes(32), b"\x01" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"]


def base32(key: bytes) -> str:
    return base64.b32encode(key).decode().rstrip("=")


def test_public_half_is_that_of_another_library():
    theirs = X25519PrivateKey.from_private_bytes(ACCESS.private_key).public_key()
    assert ACCESS.client.public_key == theirs.public_bytes_raw()


@pytest.mark.parametrize("form", ["{}", "descriptor:x25519:{}", "{}===="])
@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_client_is_read_in_both_forms(form, case):
    key = ACCESS.client.public_key
    assert AuthorizedClient.parse(form.format(case(base32(key)))).public_key == key


def test_lines_of_tor_are_read_back():
    assert AuthorizedClient.parse(ACCESS.client.auth_line) == ACCESS.client
    assert OnionAccess.parse(ACCESS.auth_private_line) == ACCESS
    assert ACCESS.auth_private_line.startswith(f"{NAME}:descriptor:x25519:")


@pytest.mark.parametrize("key", LOW_ORDER)
def test_key_of_low_order_is_refused(key):
    with pytest.raises(DecodeError, match="let everybody in"):
        AuthorizedClient.parse(base32(key))


@pytest.mark.parametrize(
    "text",
    ["", "descriptor:x25519:", "A" * 51, "A" * 53, "1" * 52, "descriptor:x448:" + "A" * 52, "\u212a" * 52],
)
def test_malformed_client_says_what_is_expected(text):
    with pytest.raises(DecodeError, match="52 base32 characters"):
        AuthorizedClient.parse(text)


def test_clients_are_one_a_line_with_comments():
    other = OnionAccess(ONION, b"\x07" * 32).client
    text = f"# friends\n\n  {ACCESS.client.base32}\r\n{other.auth_line}\n{ACCESS.client.base32.lower()}\n"
    assert parse_clients(text) == (ACCESS.client, other)


def test_wrong_line_is_named():
    with pytest.raises(DecodeError, match="line 3: not an x25519 public key"):
        parse_clients(f"# one\n{ACCESS.client.base32}\nnonsense\n")


def test_list_of_nobody_is_refused_since_it_would_mean_everybody():
    with pytest.raises(DecodeError, match="nobody could find"):
        parse_clients("# nothing\n")


def test_more_clients_than_a_descriptor_holds_are_refused():
    keys = [OnionAccess(ONION, number.to_bytes(32, "little")) for number in range(8, 8 * MAX_CLIENTS + 16, 8)]
    lines = [key.client.base32 for key in keys]
    assert len(parse_clients("\n".join(lines[:MAX_CLIENTS]))) == MAX_CLIENTS
    with pytest.raises(DecodeError, match="room for 300"):
        parse_clients("\n".join(lines))


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        f"{NAME}:x25519:{base32(bytes(32))}",
        f"{'a' * 56}:descriptor:x25519:{base32(bytes(32))}",
        f"{NAME}:descriptor:x25519:{base32(bytes(32))[:-1]}",
    ],
)
def test_malformed_access_is_refused_and_its_key_not_repeated(text):
    with pytest.raises(DecodeError) as failure:
        parse_access("\n" + text)
    assert "line 2" in str(failure.value)
    assert base32(bytes(32))[:20] not in str(failure.value)


@given(st.text(max_size=120))
def test_any_text_is_keys_or_a_decode_error(text):
    for parse in (parse_clients, parse_access, AuthorizedClient.parse, OnionAccess.parse):
        try:
            parse(text)
        except DecodeError:
            continue


def test_private_key_is_not_shown():
    assert repr(ACCESS.private_key) not in repr(ACCESS)


async def test_tor_is_given_keys_and_relieved_of_those_that_were_ours(tmp_path):
    theirs = OnionAccess(OnionKey.from_seed(b"\x09" * 32).address, b"\x08" * 32)

    def add(line):
        return b"251 Client for onion existed and replaced\r\n" if theirs.service_id in line else None

    answers = {"ONION_CLIENT_AUTH_ADD": add, "ONION_CLIENT_AUTH_REMOVE": b"251 No such\r\n"}
    async with (
        control_server(tmp_path, answers=answers) as server,
        TorControl.connect(server.open_stream) as control,
    ):
        given_ones = await give_access(control, [ACCESS, theirs])
        assert given_ones == [ACCESS]
        await forget_access(control, given_ones)
    key = base64.b64encode(ACCESS.private_key).decode()
    assert server.matching("ONION_CLIENT_AUTH_ADD")[0] == f"ONION_CLIENT_AUTH_ADD {NAME} x25519:{key}"
    assert server.matching("ONION_CLIENT_AUTH_REMOVE") == [f"ONION_CLIENT_AUTH_REMOVE {NAME}"]


async def test_refused_key_is_not_in_the_message(tmp_path):
    answers = {"ONION_CLIENT_AUTH_ADD": lambda line: b"512 " + line.encode() + b"\r\n"}
    async with (
        control_server(tmp_path, answers=answers) as server,
        TorControl.connect(server.open_stream) as control,
    ):
        with pytest.raises(TorControlError) as failure:
            await give_access(control, [ACCESS])
    assert str(failure.value) == "tor took no key to a private onion: 512"

import hmac

import pytest
import stem.connection

from relay.primitives.errors import TorControlError
from relay.tor.authentication import ProtocolInfo, answer_challenge, client_proof, open_door, server_proof
from relay.tor.control_protocol import ReplyParser

COOKIE, OURS, THEIRS = b"c" * 32, b"o" * 32, b"t" * 32


def reply(text):
    return ReplyParser().feed(text.encode("latin-1"))[0]


def test_proofs_agree_with_stem():
    def oracle(key):
        return hmac.digest(key, COOKIE + OURS + THEIRS, "sha256")

    assert server_proof(COOKIE, OURS, THEIRS) == oracle(stem.connection.SERVER_HASH_CONSTANT)
    assert client_proof(COOKIE, OURS, THEIRS) == oracle(stem.connection.CLIENT_HASH_CONSTANT)


def test_client_answers_a_right_server_hash():
    proof = server_proof(COOKIE, OURS, THEIRS)
    challenge = reply(f"250 AUTHCHALLENGE SERVERHASH={proof.hex()} SERVERNONCE={THEIRS.hex()}\r\n")
    assert answer_challenge(COOKIE, OURS, challenge) == client_proof(COOKIE, OURS, THEIRS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"250 AUTHCHALLENGE SERVERHASH={'00' * 32} SERVERNONCE={'11' * 32}\r\n", "wrong server hash"),
        ("250 AUTHCHALLENGE SERVERHASH=zz SERVERNONCE=11\r\n", "without a hash"),
        ("250 OK\r\n", "without a hash"),
    ],
)
def test_client_refuses_a_wrong_or_missing_server_hash(text, words):
    with pytest.raises(TorControlError, match=words):
        answer_challenge(COOKIE, OURS, reply(text))


def test_protocol_info_is_read_with_blanks_and_octal_in_the_path():
    info = ProtocolInfo.from_reply(
        reply(
            '250-PROTOCOLINFO 1\r\n250-AUTH METHODS=COOKIE,SAFECOOKIE COOKIEFILE="/a b/\\303\\251"\r\n'
            '250-VERSION Tor="0.4.9.11 (git-x)"\r\n250 OK\r\n'
        )
    )
    assert info.methods == {"COOKIE", "SAFECOOKIE"}
    assert info.cookie_path == "/a b/\xc3\xa9"
    assert info.tor_version == "0.4.9.11 (git-x)"


def test_protocol_info_without_methods_is_refused():
    with pytest.raises(TorControlError, match="not Tor"):
        ProtocolInfo.from_reply(reply("250 OK\r\n"))


@pytest.mark.parametrize(
    ("place", "who"),
    [
        (("127.0.0.1", 9051), "every program on this host can watch our circuits"),
        (("::1", 9051, 0, 0), "every program on this host"),
        (("192.0.2.7", 9051), "whoever reaches that address can watch our circuits"),
        (("fe80::1%eth0", 9051, 0, 3), "whoever reaches that address"),
        (("tor.example", 9051), "whoever reaches that address"),
    ],
)
def test_port_without_authentication_is_told_with_its_risk_and_remedy(place, who):
    told = open_door(ProtocolInfo(frozenset({"NULL", "SAFECOOKIE"}), "", ""), place)
    assert told is not None
    assert who in told
    assert "CookieAuthentication 1" in told
    assert f"{place[0]}:9051" in told


@pytest.mark.parametrize(
    ("methods", "place"),
    [
        ({"SAFECOOKIE"}, ("127.0.0.1", 9051)),
        ({"NULL"}, "/run/tor/control"),
        ({"NULL"}, None),
        (set(), ("a", 1)),
    ],
)
def test_port_that_asks_or_whose_file_has_rights_is_no_open_door(methods, place):
    assert open_door(ProtocolInfo(frozenset(methods), "", ""), place) is None

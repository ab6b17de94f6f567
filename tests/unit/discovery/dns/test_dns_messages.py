"""Servers' addresses, questions and answers, and how they stand in streams: no I/O."""

from __future__ import annotations

from contextlib import suppress

import dns.flags
import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.discovery.dns.framing import MAX_HTTP, HttpFraming, LengthFraming, framing_of
from relay.discovery.dns.messages import make_question, read_answer
from relay.discovery.dns.servers import PUBLIC_SERVERS, Scheme, parse_server, parse_servers
from relay.primitives.endpoint import Network
from relay.primitives.errors import DecodeError
from relay.primitives.onion import OnionKey

ONION = str(OnionKey.from_seed(bytes(32)).address)
NAME = "list.example.org"


def question(name: str = NAME, query_id: int = 7, *, padded: bool = False):
    return make_question(name, query_id, padded=padded)


def response(asked, *records: str, name: str = NAME, **flags) -> dns.message.Message:
    answer = dns.message.make_response(asked.message)
    for record in records:
        kind, _, data = record.partition(" ")
        answer.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", kind, data))
    return answer


# -- servers


@pytest.mark.parametrize(
    ("text", "scheme", "endpoint", "shown"),
    [
        ("tcp://9.9.9.9:53", Scheme.TCP, "9.9.9.9:53", "tcp://9.9.9.9:53"),
        ("tcp://[2620:fe::fe]:53", Scheme.TCP, "[2620:fe::fe]:53", "tcp://[2620:fe::fe]:53"),
        ("tcp://9.9.9.9", Scheme.TCP, "9.9.9.9:53", "tcp://9.9.9.9:53"),
        ("tls://dns.example.org", Scheme.TLS, "dns.example.org:853", "tls://dns.example.org:853"),
        ("tls://dns.example.org:443", Scheme.TLS, "dns.example.org:443", "tls://dns.example.org:443"),
        ("https://dns.example.org/q", Scheme.HTTPS, "dns.example.org:443", "https://dns.example.org/q"),
        (
            "https://DNS.example.org:444/dns-query{?dns}",
            Scheme.HTTPS,
            "dns.example.org:444",
            "https://dns.example.org:444/dns-query",
        ),
        (f"tcp://{ONION}:53", Scheme.TCP, f"{ONION}:53", f"tcp://{ONION}:53"),
    ],
)
def test_server_is_read(text, scheme, endpoint, shown):
    server = parse_server(text)
    assert (server.scheme, str(server.endpoint), str(server)) == (scheme, endpoint, shown)
    assert parse_server(shown) == server
    assert server.is_onion == (ONION in text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9.9.9.9",
        "udp://9.9.9.9:53",
        "http://dns.example.org/dns-query",
        "tcp://",
        "tcp://9.9.9.9:0",
        "tcp://9.9.9.9:65536",
        "tcp://9.9.9.9:53/path",
        "tcp://2620:fe::fe:53",
        "tls://user@host:853",
        "https://dns.example.org",
        "https://dns.example.org/a b",
        "https://dns.example.org/a\r\nX: y",
        "https://dns.example.org/a?b=c",
        "https://dns.example.org/a#b",
        "https://localhost\r\n/a",
        "tcp://" + "a" * 55 + ".onion:53",
    ],
)
def test_what_is_no_server_is_refused(text):
    with pytest.raises(DecodeError):
        parse_server(text)


def test_list_of_servers_is_bounded_and_without_doubles():
    assert len(parse_servers("tcp://9.9.9.9, tcp://9.9.9.9:53,tls://a.example")) == 2
    for text in ("", " , ", ",".join(f"tcp://10.0.0.{n}" for n in range(9))):
        with pytest.raises(DecodeError):
            parse_servers(text)


def test_public_servers_are_encrypted_names():
    assert all(server.encrypted for server in PUBLIC_SERVERS)
    assert all(server.endpoint.network is Network.DNS for server in PUBLIC_SERVERS)
    assert all(parse_server(str(server)) == server for server in PUBLIC_SERVERS)


# -- messages


def test_question_asks_for_txt_and_keeps_the_case_of_a_hash():
    asked = question("ABCDEF.Example.org", 0xBEEF)
    message = dns.message.from_wire(asked.wire)
    assert message.id == 0xBEEF
    assert message.flags & dns.flags.RD
    assert message.question[0].to_text() == "ABCDEF.Example.org. IN TXT"
    assert message.payload == 1232


@pytest.mark.parametrize("name", ["a.b", "x" * 63 + ".example.org", "y" * 26 + ".long.example.org"])
def test_padded_questions_tell_little_by_their_length(name):
    assert len(question(name, padded=True).wire) == 128


@pytest.mark.parametrize(
    "name", ["x" * 64 + ".org", ".".join(["x" * 60] * 5), "a..b", ONION, f"ABC.{ONION}", "\udcff.org"]
)
def test_what_dns_can_not_carry_or_must_not_see_is_refused(name):
    with pytest.raises(DecodeError):
        question(name)


def test_strings_of_a_record_are_joined():
    asked = question()
    found = read_answer(asked, response(asked, 'TXT "enrtree-" "branch:" ""', 'TXT "other"').to_wire())
    assert (found.rcode, found.is_final) == ("NOERROR", True)
    assert set(found.texts) == {"enrtree-branch:", "other"}


def test_answer_behind_an_alias_is_found():
    asked = question()
    answer = response(asked, "CNAME there.example.net.")
    answer.answer.append(dns.rrset.from_text("there.example.net.", 60, "IN", "TXT", '"found"'))
    assert read_answer(asked, answer.to_wire()).texts == ("found",)


def test_names_that_are_not_there_and_servers_that_fail_are_told_apart():
    asked = question()
    for rcode, final in ((3, True), (2, False), (5, False), (1, False)):
        answer = response(asked)
        answer.set_rcode(rcode)
        found = read_answer(asked, answer.to_wire())
        assert (found.is_final, found.texts) == (final, ())
    assert read_answer(asked, response(asked).to_wire()).is_final


def test_looping_aliases_end():
    asked = question()
    answer = response(asked, "CNAME b.example.org.")
    answer.answer.append(dns.rrset.from_text("b.example.org.", 60, "IN", "CNAME", f"{NAME}."))
    with pytest.raises(DecodeError):
        read_answer(asked, answer.to_wire())


def test_record_of_another_name_is_no_answer():
    asked = question()
    answer = response(asked, 'TXT "forged"', name="other.example.org")
    assert read_answer(asked, answer.to_wire()).texts == ()


def test_answer_to_another_question_is_refused():
    for other in (question("other.example.org"), question(query_id=8)):
        with pytest.raises(DecodeError, match="another question"):
            read_answer(question(), response(other, name="other.example.org").to_wire())


def test_question_sent_back_is_no_answer():
    with pytest.raises(DecodeError):
        read_answer(question(), question().wire)


def test_bytes_that_are_no_text_do_not_raise():
    asked = question()
    answer = response(asked, r'TXT "\255\254"')
    assert read_answer(asked, answer.to_wire()).texts == ("\ufffd\ufffd",)


def test_pointers_that_loop_in_a_message_are_refused():
    asked = question()
    header = asked.wire[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00"
    with pytest.raises(DecodeError):
        read_answer(asked, header + b"\xc0\x0c" + b"\x00\x10\x00\x01")


@given(st.binary(max_size=600))
def test_no_bytes_raise_anything_else(data):
    asked = question()
    for wire in (data, asked.wire[:2] + data, asked.wire[:2] + b"\x81\x80\x00\x01" + data):
        with suppress(DecodeError):
            read_answer(asked, wire)


@given(st.data())
def test_damaged_answers_raise_nothing_else(data):
    asked = question()
    good = response(asked, 'TXT "enrtree-root:v1"', "MX 10 mail.example.org.", "A 203.0.113.1").to_wire()
    wire = bytearray(good[: data.draw(st.integers(2, len(good)))])
    for _ in range(data.draw(st.integers(0, 6))):
        wire[data.draw(st.integers(2, len(wire) - 1)) if len(wire) > 2 else 0] = data.draw(
            st.integers(0, 255)
        )
    with suppress(DecodeError):
        read_answer(asked, bytes(wire))


# -- framing


def test_message_behind_its_length_comes_in_any_pieces():
    framing = LengthFraming()
    assert framing.request(b"abc") == b"\0\3abc"
    assert [framing.receive(bytes((byte,))) for byte in b"\0\3xyz"] == [None, None, None, None, b"xyz"]
    assert framing.receive(b"\0\1q") == b"q"


@pytest.mark.parametrize("data", [b"\0\1ab", b""])
def test_stream_that_says_too_much_or_ends_is_refused(data):
    with pytest.raises(DecodeError):
        LengthFraming().receive(data)


SERVER = parse_server("https://dns.example.org/dns-query")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/dns-message\r\n"


def asked_http(server=SERVER) -> HttpFraming:
    framing = framing_of(server)
    assert isinstance(framing, HttpFraming)
    framing.request(b"question")
    return framing


def test_http_request_tells_no_program():
    text = framing_of(SERVER).request(b"question")
    head, _, body = text.partition(b"\r\n\r\n")
    assert body == b"question"
    assert head.split(b"\r\n") == [
        b"POST /dns-query HTTP/1.1",
        b"Host: dns.example.org",
        b"Accept: application/dns-message",
        b"Content-Type: application/dns-message",
        b"Content-Length: 8",
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 3\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
    ],
)
def test_http_answer_comes_in_any_pieces_and_leaves_the_stream_usable(body):
    framing = asked_http()
    assert not framing.reusable
    answers = [framing.receive(bytes((byte,))) for byte in HEAD + body]
    assert [answer for answer in answers if answer is not None] == [b"abc"]
    assert framing.reusable
    assert framing.request(b"next")


def test_http_body_may_end_with_the_stream_and_an_interim_answer_may_come_first():
    framing = asked_http()
    assert framing.receive(b"HTTP/1.1 103 Early Hints\r\n\r\n") is None
    assert framing.receive(HEAD + b"\r\nabc") is None
    assert framing.receive(b"") == b"abc"
    assert not framing.reusable


def test_http_server_that_closes_is_not_asked_again_on_the_stream():
    framing = asked_http()
    assert framing.receive(HEAD + b"Connection: close\r\nContent-Length: 1\r\n\r\na") == b"a"
    assert not framing.reusable


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n", "status 302"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "status 500"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1\r\n\r\na", "type"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", "type"),
        (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\na", "compressed"),
        (HEAD + b"Content-Length: 70000\r\n\r\n" + bytes(70000), "more than"),
        (HEAD + b"Content-Length: 1\r\n\r\nab", "more bytes"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\na", "bad HTTP"),
        (b"X" * 20000, "bad HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 4000, "bad HTTP"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 6000, f"more than {MAX_HTTP}"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "bad HTTP"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_http_is_refused(data, why):
    with pytest.raises(DecodeError, match=why):
        asked_http().receive(data)


def test_http_that_ends_too_early_is_refused():
    for data in (b"", HEAD, HEAD + b"Content-Length: 3\r\n\r\nab"):
        framing = asked_http()
        if data:
            framing.receive(data)
        with pytest.raises(DecodeError):
            framing.receive(b"")


@given(st.lists(st.binary(max_size=200), max_size=6), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", HEAD]))
def test_http_of_any_bytes_raises_nothing_else(parts, head):
    framing = asked_http()
    with suppress(DecodeError):
        for part in (head, *parts):
            framing.receive(part)

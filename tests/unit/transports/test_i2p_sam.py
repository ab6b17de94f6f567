from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.errors import Retry, SamFailed
from relay.primitives.i2p import I2PKey, i2p_from_destination, i2p_from_hash
from relay.transports import i2p_sam as sam
from tests.aids.sam_bridge import make_destination, make_key, text_of

DESTINATION = make_destination(b"\x01" * 384)
TEXT = text_of(DESTINATION)
ADDRESS = i2p_from_destination(TEXT)
KEY = I2PKey(make_key(DESTINATION))
OTHER = I2PKey(make_key())


def reply(text: str) -> sam.Reply:
    return sam.parse_reply(text.encode())


# -- requests ------------------------------------------------------------------------------------------


def test_requests_are_lines_of_version_3_1() -> None:
    assert sam.hello() == b"HELLO VERSION MIN=3.1 MAX=3.1\n"
    assert sam.new_key() == b"DEST GENERATE SIGNATURE_TYPE=7\n"
    assert sam.lookup(ADDRESS) == f"NAMING LOOKUP NAME={ADDRESS}\n".encode()
    assert (
        sam.stream_connect("ab1", TEXT) == f"STREAM CONNECT ID=ab1 DESTINATION={TEXT} SILENT=false\n".encode()
    )
    assert sam.stream_accept("ab1") == b"STREAM ACCEPT ID=ab1 SILENT=false\n"


def test_session_names_style_signature_and_tunnels() -> None:
    line = sam.session_create("ab1", KEY, sam.Hops(2)).decode()
    assert line.endswith("\n")
    words = dict(word.split("=", 1) for word in line.split() if "=" in word)
    assert line.startswith("SESSION CREATE ")
    assert words == {
        "STYLE": "STREAM",
        "ID": "ab1",
        "DESTINATION": KEY.to_text(),
        "SIGNATURE_TYPE": "7",
        "inbound.length": "2",
        "outbound.length": "2",
        "inbound.quantity": "3",
        "outbound.quantity": "3",
        "i2cp.leaseSetEncType": "4",
    }


@pytest.mark.parametrize("name", ["", "a b", "a\nSTREAM ACCEPT", "a" * 65])
def test_session_name_can_not_bring_words_of_its_own(name: str) -> None:
    with pytest.raises(AssertionError):
        sam.stream_accept(name)


# -- replies -------------------------------------------------------------------------------------------


def test_reply_is_two_words_and_pairs() -> None:
    found = reply(r'STREAM STATUS RESULT=I2P_ERROR MESSAGE="no \"way\" \\ there" EMPTY= FLAG')
    assert found.topic == "STREAM STATUS"
    assert found.values == {"RESULT": "I2P_ERROR", "MESSAGE": r'no "way" \ there', "EMPTY": "", "FLAG": ""}


def test_carriage_return_and_spaces_at_the_end_are_taken() -> None:
    assert reply("HELLO REPLY RESULT=OK VERSION=3.1 \r").values == {"RESULT": "OK", "VERSION": "3.1"}


def test_good_replies_are_taken() -> None:
    sam.check_hello(reply("HELLO REPLY RESULT=OK VERSION=3.1"))
    sam.check_created(reply(f"SESSION STATUS RESULT=OK DESTINATION={KEY.to_text()}"), KEY)
    sam.check_status(reply("STREAM STATUS RESULT=OK"))
    assert sam.looked_up(reply(f"NAMING REPLY RESULT=OK NAME={ADDRESS} VALUE={TEXT}"), ADDRESS) == TEXT
    assert sam.generated_key(reply(f"DEST REPLY PUB={TEXT} PRIV={KEY.to_text()}")) == KEY
    assert sam.accepted_from(TEXT.encode()) == ADDRESS
    assert sam.accepted_from(f"{TEXT} FROM_PORT=0 TO_PORT=0".encode()) == ADDRESS


@pytest.mark.parametrize("result", sam.RESULTS)
def test_each_result_says_what_it_means_and_when_to_try_again(result: str) -> None:
    with pytest.raises(SamFailed, match=result) as caught:
        sam.check_status(reply(f"STREAM STATUS RESULT={result}"))
    assert (caught.value.result, caught.value.retry) == (result, sam.RESULTS[result].retry)
    assert caught.value.retry is not Retry.NEVER  # the bridge's word must not park a static node for ever


def test_unknown_result_and_message_are_shown_short_and_printable() -> None:
    with pytest.raises(SamFailed) as caught:
        sam.check_status(reply('STREAM STATUS RESULT=\x1b[31mX MESSAGE="' + "m\u2028" * 300 + '"'))
    text = str(caught.value)
    assert text.isascii()
    assert text.isprintable()
    assert "no specification has (?[31mX" in text
    assert len(text) < 300
    assert caught.value.result == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"HTTP/1.1 400 Bad Request", "answers in HTTP"),
        (b"\x05\x00", "answers in SOCKS5"),
        (b"\x00\x5b", "answers in SOCKS4"),
        (b"514 Authentication required.", "control port of Tor"),
        (b"", "garbage"),
        (b"HELLO", "garbage"),
        (b"\xff\xfe\xfd", "garbage"),
        (b'STREAM STATUS RESULT="OK', "garbage"),
        (b"STREAM STATUS " + b"A=B " * 40, "garbage"),
        (b"STREAM STATUS RESULT=OK RESULT=I2P_ERROR", "twice in one reply"),
    ],
)
def test_line_that_is_no_reply_is_told_by_what_it_looks_like(line: bytes, words: str) -> None:
    with pytest.raises(SamFailed, match=words):
        sam.check_status(sam.parse_reply(line))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("HELLO REPLY RESULT=OK VERSION=3.3", "chose version '3.3', and 3.1 was offered"),
        ("HELLO REPLY RESULT=OK", "chose version ''"),
        ("HELLO REPLY RESULT=NOVERSION", "too old"),
        ("HELLO REPLY VERSION=3.1", "without a RESULT"),
        ("STREAM STATUS RESULT=OK", "answers 'STREAM STATUS' to our greeting"),
    ],
)
def test_greeting_is_checked(text: str, words: str) -> None:
    with pytest.raises(SamFailed, match=words):
        sam.check_hello(reply(text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"SESSION STATUS RESULT=OK DESTINATION={OTHER.to_text()}", "of another destination than ours"),
        ("SESSION STATUS RESULT=OK DESTINATION=AAAA", "of what is no key"),
        ("SESSION STATUS RESULT=OK", "of what is no key"),
        ("SESSION STATUS RESULT=DUPLICATED_DEST", "second relay"),
        ("DEST REPLY RESULT=OK", "answers 'DEST REPLY'"),
    ],
)
def test_session_of_another_destination_is_refused(text: str, words: str) -> None:
    with pytest.raises(SamFailed, match=words):
        sam.check_created(reply(text), KEY)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"NAMING REPLY RESULT=OK NAME=x VALUE={text_of(make_destination())}", "of another address"),
        (f"NAMING REPLY RESULT=OK NAME=x VALUE={TEXT[:-8]}", "no destination"),
        (f"NAMING REPLY RESULT=OK NAME=x VALUE={'A' * 5000}", "no destination"),
        ("NAMING REPLY RESULT=OK NAME=x", "no destination"),
        ("NAMING REPLY RESULT=KEY_NOT_FOUND NAME=x", "not found in the network"),
    ],
)
def test_lookup_of_another_destination_is_refused(text: str, words: str) -> None:
    with pytest.raises(SamFailed, match=words):
        sam.looked_up(reply(text), ADDRESS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"DEST REPLY PUB={TEXT} PRIV={OTHER.to_text()}", "not of the destination beside it"),
        (f"DEST REPLY PUB={TEXT} PRIV={TEXT}", "a key that is none"),
        ("DEST REPLY", "a key that is none"),
        ("DEST REPLY RESULT=I2P_ERROR", "router's own"),
        ("SESSION STATUS RESULT=OK", "answers 'SESSION STATUS'"),
    ],
)
def test_key_that_does_not_fit_is_refused(text: str, words: str) -> None:
    with pytest.raises(SamFailed, match=words):
        sam.generated_key(reply(text))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", "destination is none"),
        (TEXT[:-1].encode(), "destination is none"),
        (b"A" * 8000, "destination is none"),
        (b"\xff" * 516, "other characters"),
        (b"STREAM STATUS RESULT=I2P_ERROR", "router's own"),
        (b"STREAM STATUS RESULT=OK", "in place of a peer's destination"),
    ],
)
def test_accept_line_that_names_nobody_is_refused(line: bytes, words: str) -> None:
    with pytest.raises(SamFailed, match=words):
        sam.accepted_from(line)


TAKERS = (
    sam.check_hello,
    sam.check_status,
    sam.generated_key,
    lambda found: sam.check_created(found, KEY),
    lambda found: sam.looked_up(found, i2p_from_hash(bytes(32))),
)
LINES = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda topic, pairs: " ".join([topic, *(f"{key}={value}" for key, value in pairs)]).encode(),
        st.sampled_from(
            ["HELLO REPLY", "SESSION STATUS", "NAMING REPLY", "STREAM STATUS", "DEST REPLY", "PING x"]
        ),
        st.lists(
            st.tuples(
                st.sampled_from(["RESULT", "VERSION", "DESTINATION", "VALUE", "PUB", "PRIV", "MESSAGE"]),
                st.one_of(
                    st.sampled_from(["OK", "3.1", TEXT, KEY.to_text(), '"a b"', '"']), st.text(max_size=20)
                ),
            ),
            max_size=6,
        ),
    ),
)


def refusal(call: Callable[[], object]) -> str:
    """What a call says no with; empty when it does not."""
    try:
        call()
    except SamFailed as error:
        return str(error)
    return ""


@given(LINES)
def test_any_line_is_taken_or_refused_with_words(line: bytes) -> None:
    said = [refusal(lambda take=take: take(sam.parse_reply(line))) for take in TAKERS]
    said.append(refusal(lambda: sam.accepted_from(line)))
    assert all(each.isprintable() and len(each) < 500 for each in said)


PLAIN = st.text(st.characters(codec="ascii", exclude_characters=' ="\\', min_codepoint=33), min_size=1)


@given(
    st.lists(st.tuples(PLAIN, st.text(st.characters(codec="utf-8", exclude_characters="\n\r"))), max_size=20)
)
def test_quoted_values_come_back_as_they_were(pairs: list[tuple[str, str]]) -> None:
    unique = dict(pairs)
    escaped = {key: value.replace("\\", "\\\\").replace('"', '\\"') for key, value in unique.items()}
    line = " ".join(["A", "B", *(f'{key}="{value}"' for key, value in escaped.items())])
    assert dict(reply(line).values) == unique

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stem.response import ControlLine, ControlMessage

from relay.primitives.errors import TorControlError
from relay.tor.control_protocol import (
    MAX_LINE,
    MAX_LINES,
    MAX_REPLY,
    ReplyParser,
    encode_command,
    parse_keywords,
    quote,
    unquote,
)

MIXED = (
    b"250-version=0.4.9.11\r\n250+onions/current=\r\nabc\r\n..dotted\r\n.\r\n250 OK\r\n"
    b'650 STATUS_CLIENT NOTICE BOOTSTRAP PROGRESS=5 TAG=conn SUMMARY="Connecting"\r\n'
    b"515 Bad\n"
)


def test_parser_reads_lines_data_and_events():
    reply, event, refusal = ReplyParser().feed(MIXED)
    assert reply.keyword_lines() == {"version": "0.4.9.11", "onions/current": "abc\n.dotted"}
    assert (reply.code, reply.text, reply.is_event) == (250, "OK", False)
    assert event.is_event
    assert refusal.code == 515


def test_parser_gives_the_same_for_every_split():
    whole = ReplyParser().feed(MIXED)
    for size in (1, 2, 3, 7):
        parser = ReplyParser()
        found = [reply for at in range(0, len(MIXED), size) for reply in parser.feed(MIXED[at : at + size])]
        assert found == whole


def test_parser_agrees_with_stem():
    raw = b"250-a=1\r\n250+b=\r\nx\r\ny\r\n.\r\n250 OK\r\n"
    (ours,) = ReplyParser().feed(raw)
    theirs = ControlMessage.from_str(raw.decode())
    assert [line[2] for line in theirs.content()] == ["a=1", "b=\nx\ny", "OK"]
    assert ours.keyword_lines() == {"a": "1", "b": "x\ny"}


@pytest.mark.parametrize(
    "hostile",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b"2x0 OK\r\n",
        b"250\r\n",
        b"950 OK\r\n",
        b"250-half\r\n650 EVENT\r\n",
        b"x" * (MAX_LINE + 1),
        b"250 " + b"x" * MAX_LINE + b"\r\n",
        b"250-x\r\n" * (MAX_LINES + 1),
        b"250+x\r\n" + b"y\r\n" * (MAX_LINES + 1),
        b"250-" + b"x" * 9_000 + b"\r\n",
    ],
)
def test_parser_refuses_garbage_and_excess(hostile):
    with pytest.raises(TorControlError):
        ReplyParser().feed(hostile * (MAX_REPLY // len(hostile) + 2))


def test_parser_takes_a_line_and_a_reply_of_the_allowed_size():
    assert ReplyParser().feed(b"250 " + b"x" * (MAX_LINE - 6) + b"\r\n")
    assert ReplyParser().feed(b"250-x\r\n" * (MAX_LINES - 1) + b"250 OK\r\n")


def test_parser_is_linear_on_single_bytes():
    parser, data = ReplyParser(), b"250 " + b"x" * 90_000 + b"\r\n"
    began = time.process_time()
    replies = [reply for byte in data for reply in parser.feed(bytes([byte]))]
    assert len(replies) == 1
    assert time.process_time() - began < 2  # quadratic search would take minutes


@given(st.binary(max_size=400))
def test_parser_never_raises_anything_else(data):
    parser = ReplyParser()
    try:
        for reply in parser.feed(data):
            reply.keyword_lines()
            parse_keywords(reply.text)
    except TorControlError:
        pass


@given(st.text(alphabet=st.characters(codec="latin-1"), max_size=200))
def test_keyword_search_never_raises_anything_else(text):
    try:
        parse_keywords(text)
        unquote(text)
    except TorControlError:
        pass


def test_keyword_search_is_linear_in_garbage():
    began = time.process_time()
    parse_keywords("a" * MAX_LINE)
    parse_keywords(' a="\\"' * (MAX_LINE // 6))
    assert time.process_time() - began < 2


@given(st.text(alphabet=st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=50))
def test_quoting_is_undone_by_unquoting(text):
    assert unquote(quote(text)) == text


@pytest.mark.parametrize(
    ("quoted", "plain"),
    [
        ('"/var/run/tor dir/cookie"', "/var/run/tor dir/cookie"),
        (r'"a\"b\\c"', 'a"b\\c'),
        (r'"\303\251\n\t\r\x"', "\xc3\xa9\n\t\rx"),
        ("bare", "bare"),
        ('""', ""),
    ],
)
def test_unquoting_resolves_escapes(quoted, plain):
    assert unquote(quoted) == plain


def test_unquoting_agrees_with_stem_on_a_path_with_blanks():
    line = r'COOKIEFILE="/tmp/my \"data\\dir\"/cookie" NEXT=1'
    _, theirs = ControlLine(line).pop_mapping(True, True)
    assert parse_keywords(line) == {"COOKIEFILE": theirs, "NEXT": "1"}


@pytest.mark.parametrize("text", ['"', '"open'])
def test_unquoting_refuses_a_missing_end(text):
    with pytest.raises(TorControlError):
        unquote(text)


def test_first_of_a_repeated_key_counts():
    assert parse_keywords('A=1 A="2" B=" x y "') == {"A": "1", "B": " x y "}


@pytest.mark.parametrize("argument", ["a\r\nQUIT", "a\n", "a\0"])
def test_command_with_a_line_break_is_refused(argument):
    with pytest.raises(TorControlError):
        encode_command("GETINFO", argument)


def test_command_is_one_line():
    assert encode_command("GETINFO", "version", "x") == b"GETINFO version x\r\n"

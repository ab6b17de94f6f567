from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.address import TcpAddress, UnixAddress
from relay.primitives.errors import UsageError
from relay.settings import values
from relay.settings.options import OPTIONS


@pytest.mark.parametrize("text", ["1", "true", "YES", " on "])
def test_boolean_reads_what_people_write_for_true(text):
    assert values.boolean(text) is True


@pytest.mark.parametrize("text", ["0", "False", "no", "off"])
def test_boolean_reads_what_people_write_for_false(text):
    assert values.boolean(text) is False


@pytest.mark.parametrize("text", ["", "maybe", "2", "tru"])
def test_boolean_refuses_the_rest(text):
    with pytest.raises(UsageError, match="neither true nor false"):
        values.boolean(text)


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "0x10", "1_000", "65536", "²", "١", "9" * 5000])
def test_number_refuses_what_is_no_port(text):
    with pytest.raises(UsageError, match="whole number from 0 to 65535"):
        values.WholeNumber(0, 65535)(text)


def test_number_takes_both_bounds():
    assert [values.WholeNumber(0, 5)(text) for text in ("0", "5", " 3 ")] == [0, 5, 3]


def test_a_long_wrong_value_is_not_repeated_whole():
    with pytest.raises(UsageError) as failure:
        values.one_of("a", "b")("x" * 10_000)
    assert len(str(failure.value)) < 200


def test_path_knows_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    assert values.path("~/data") == Path("/home/somebody/data")


@pytest.mark.parametrize("text", ["", "a\0b", "~nobody-has-this-name/x"])
def test_path_refuses_what_names_no_file(text):
    with pytest.raises(UsageError):
        values.path(text)


def test_address_of_a_listener_may_have_a_free_port():
    assert values.address("localhost:0") == TcpAddress("127.0.0.1", 0)
    assert values.address("unix:/run/x") == UnixAddress("/run/x")


def test_destination_needs_a_port():
    assert values.destination("[::1]:9050") == TcpAddress("::1", 9050)
    with pytest.raises(UsageError, match="port 0"):
        values.destination("127.0.0.1:0")


@pytest.mark.parametrize(
    "text", ["tor.example.org:9050", "localhost.:9050", "9050", ":9050", "unix:relative"]
)
def test_names_are_refused_where_an_address_is_wanted(text):
    with pytest.raises(UsageError):
        values.destination(text)


def test_ip_address_takes_no_name():
    assert values.ip_address("::0001") == "::1"
    with pytest.raises(UsageError, match="not an IP address"):
        values.ip_address("relay.example.org")


def test_onion_address_is_checked():
    with pytest.raises(UsageError):
        values.onion_address("a" * 56 + ".onion")


@pytest.mark.parametrize("text", ["", "69,", "67", "69,²", "eth/69", "9" * 5000])
def test_eth_versions_refuse_what_the_table_does_not_describe(text):
    with pytest.raises(UsageError, match="no eth version"):
        values.eth_versions(text)


@pytest.mark.parametrize("text", ["\x1e68", "69,\x1c68\x1f", "\x8568"])
def test_eth_versions_between_strange_spaces_are_read(text):
    assert 68 in values.eth_versions(text)  # found by the fuzzer: a ValueError


def test_eth_versions_are_sorted_and_counted_once():
    assert values.eth_versions("71, 69,71") == (69, 71)


def test_words_are_out_of_a_list():
    modules = values.Words("eth", "net")
    assert modules("net, eth,net,") == ("net", "eth")
    with pytest.raises(UsageError, match="none of: eth, net"):
        modules("eth,admin")


@pytest.mark.parametrize("text", ["", "a\nb", "\x1b[31m"])
def test_text_refuses_what_would_break_a_log_line(text):
    with pytest.raises(UsageError):
        values.text(text)


@given(st.sampled_from(OPTIONS), st.text(max_size=40))
def test_every_parser_answers_any_text_with_a_value_or_a_usage_error(option, text):
    with suppress(UsageError):
        option.parse(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("90s", 90), ("30m", 1800), ("6h", 21_600), (" 2d ", 172_800)]
)
def test_duration_is_a_number_with_its_unit(text, seconds):
    assert values.Duration(10)(text) == seconds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no duration"),
        ("90", "is no duration"),
        ("6 hours", "is no duration"),
        ("1.5h", "is no duration"),
        ("-5m", "is no duration"),
        ("h", "is no duration"),
        ("٣h", "is no duration"),
        ("9s", "not between 10s and 365d"),
        ("0s", "not between"),
        ("366d", "not between"),
    ],
)
def test_duration_says_what_it_takes(text, words):
    with pytest.raises(UsageError, match=words):
        values.Duration(10)(text)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.errors import DecodeError, UsageError
from relay.tor.bridges import Bridge, Transport, bridge_lines, check_programs, split_bridges
from relay.tor.launched import LaunchOptions
from relay.tor.torrc import torrc_text

PRINT = "0123456789ABCDEF0123456789ABCDEF01234567"
OBFS4 = f"obfs4 192.0.2.7:443 {PRINT} cert=abc+/def iat-mode=0"
SNOWFLAKE = (
    f"snowflake 192.0.2.3:80 {PRINT} fingerprint={PRINT} url=https://snow.example/"
    " fronts=www.one.example,www.two.example ice=stun:stun.l.example:19302,stun:stun.example:3478"
    " utls-imitate=hellorandomizedalpn"
)


@pytest.mark.parametrize(
    ("given_line", "line"),
    [
        (OBFS4, f"Bridge {OBFS4}"),
        (f"Bridge {OBFS4}", f"Bridge {OBFS4}"),
        (f"  bridge   {OBFS4} ", f"Bridge {OBFS4}"),
        (SNOWFLAKE, f"Bridge {SNOWFLAKE}"),
        ("192.0.2.7:443", "Bridge 192.0.2.7:443"),
        (f"[2001:DB8::1]:9 {PRINT.lower()}", f"Bridge [2001:db8::1]:9 {PRINT}"),
    ],
)
def test_line_of_an_operator_becomes_a_line_of_torrc(given_line, line):
    assert Bridge.parse(given_line).line == line


@pytest.mark.parametrize(
    "line",
    [
        "",
        "obfs4",
        "obfs4 bridge.example:443",
        "obfs4 192.0.2.7",
        "obfs4 192.0.2.7:0",
        "obfs4 192.0.2.7:65536",
        "obfs4 192.0.2.7:٤٤٣",
        "obfs4 2001:db8::1:443",
        "obfs4 [192.0.2.7]:443",
        "192.0.2.7:443 cert=abc",
        f"obfs4 192.0.2.7:443 {PRINT[:-1]}",
        f"obfs4 192.0.2.7:443 {PRINT} cert",
        f"obfs4 192.0.2.7:443 {PRINT} =abc",
        f"obfs4 192.0.2.7:443 {PRINT} {PRINT}",
        f"{OBFS4}\nSocksPort 0.0.0.0:9050",
        f"{OBFS4}\rControlPort 9051",
        f"{OBFS4}\u2028x=y",
        f"{OBFS4} x=\\",
        f"{OBFS4} # x=y",
        f'{OBFS4} x="y"',
        f"{OBFS4}\x00",
        f"ob-fs4 192.0.2.7:443 {PRINT}",
        OBFS4 + " x=" + "y" * 2_000,
    ],
)
def test_hostile_line_is_refused_and_never_told_whole(line):
    with pytest.raises(DecodeError) as failure:
        Bridge.parse(line)
    assert "cert=abc+/def" not in str(failure.value)


@given(st.text(max_size=200))
def test_whatever_is_taken_is_one_line_of_torrc(text):
    for line in split_bridges(text):
        try:
            bridge = Bridge.parse(line)
        except DecodeError:
            continue
        assert torrc_text([bridge.line]).count("\n") == 1
        assert not set('#"\\') & set(bridge.line)
        assert Bridge.parse(bridge.line) == bridge


@pytest.mark.parametrize("text", ["{},{}", "{} , {}", "{},Bridge {}"])
def test_bridges_are_split_between_them_and_not_inside(text):
    for first, second in ((OBFS4, SNOWFLAKE), (SNOWFLAKE, "192.0.2.7:443"), ("[::1]:1", "[::2]:2")):
        found = [Bridge.parse(line) for line in split_bridges(text.format(first, second))]
        assert found == [Bridge.parse(first), Bridge.parse(second)]


def test_transport_names_its_program():
    assert (
        Transport.parse("obfs4=/usr/bin/obfs4proxy").line
        == "ClientTransportPlugin obfs4 exec /usr/bin/obfs4proxy"
    )
    assert Transport.parse("obfs3+obfs4=/o").line == "ClientTransportPlugin obfs3,obfs4 exec /o"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "obfs4",
        "obfs4=",
        "=/bin/true",
        "ob fs=/x",
        "obfs4=relative",
        "obfs4=/with blank",
        "obfs4=/x\nLog debug",
        "obfs4,x=/y",
        "obfs4=/x#y",
        "1x=/y",
    ],
)
def test_malformed_transport_is_refused(text):
    with pytest.raises(DecodeError):
        Transport.parse(text)


def test_bridge_without_the_program_of_its_transport_is_named_by_its_number():
    bridges = [Bridge.parse("192.0.2.7:443"), Bridge.parse(OBFS4)]
    with pytest.raises(UsageError, match=r"bridge 2 speaks obfs4.*--tor-transport obfs4=PATH"):
        bridge_lines(bridges, [])
    with pytest.raises(UsageError, match="no use without a bridge"):
        bridge_lines([], [Transport.parse("obfs4=/x")])


def test_torrc_enters_by_bridges_alone():
    options = LaunchOptions((Bridge.parse(OBFS4),), (Transport.parse("obfs4=/o"),), vanguards=False)
    assert options.lines == [
        "UseBridges 1", "ClientTransportPlugin obfs4 exec /o", f"Bridge {OBFS4}", "VanguardsLiteEnabled 0",
    ]  # fmt: skip
    assert LaunchOptions().lines == []


def test_missing_program_is_named_before_tor_starts(tmp_path):
    there = tmp_path / "program"
    there.touch(mode=0o700)
    check_programs([Transport(("obfs4",), there)])
    there.chmod(0o600)
    for wrong in (there, tmp_path / "missing", tmp_path):
        with pytest.raises(UsageError, match="there is no program"):
            check_programs([Transport(("obfs4",), wrong)])

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.primitives.address import TcpAddress
from relay.primitives.errors import UsageError
from relay.settings import load_settings
from relay.settings.load import default_datadir


@pytest.fixture
def home(tmp_path):
    return {"XDG_DATA_HOME": str(tmp_path)}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "pyrelay" / "pyrelay.toml"
    path.parent.mkdir()

    def write(text: str | bytes) -> Path:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


def refusal(argv=None, env=None) -> str:
    with pytest.raises(UsageError) as failure:
        load_settings(argv or {}, env or {})
    return str(failure.value)


def test_nothing_given_is_a_relay_without_tor_in_the_xdg_folder(home, tmp_path):
    settings = load_settings({}, home)
    assert settings.datadir == tmp_path / "pyrelay"
    assert (settings.mode, settings.port, settings.maxpeers, settings.config) == ("no-tor", 30303, 50, None)
    assert settings.eth_versions == (68, 69, 70, 71, 72)


def test_xdg_folder_must_be_absolute_as_its_specification_says(monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    expected = Path("/home/somebody/.local/share/pyrelay")
    assert default_datadir({"XDG_DATA_HOME": "relative"}) == default_datadir({}) == expected


def test_argv_wins_over_environment_wins_over_file(home, config):
    config("port = 1\nmaxpeers = 1\ndial-ratio = 1\n")
    env = home | {"PYRELAY_PORT": "2", "PYRELAY_MAXPEERS": "2"}
    settings = load_settings({"port": "3"}, env)
    assert (settings.port, settings.maxpeers, settings.dial_ratio) == (3, 2, 1)


def test_file_holds_every_type_of_value(home, config):
    path = config(
        'only-onion = true\ntor-proxy = "127.0.0.1:9050"\neth-versions = [68, 69]\nport = "7"\n'
        '[http]\nenabled = true\nport = 8546\napi = ["eth", "txpool"]\n[metrics]\naddr = "::1"\n'
    )
    settings = load_settings({}, home)
    assert settings.config == path
    assert (settings.mode, settings.tor_proxy) == ("only-onion", TcpAddress("127.0.0.1", 9050))
    assert (settings.eth_versions, settings.http, settings.http_port) == ((68, 69), True, 8546)
    assert (settings.http_api, settings.metrics_addr, settings.port) == (("eth", "txpool"), "::1", 7)


def test_file_may_name_the_data_folder(home, config, tmp_path):
    config(f'datadir = "{tmp_path}/elsewhere"\n')
    assert load_settings({}, home).datadir == tmp_path / "elsewhere"
    assert load_settings({"datadir": str(tmp_path)}, home).datadir == tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tor-proxi = 'x'", "tor-proxi: no such setting; did you mean tor-proxy?"),
        ("[http]\nprot = 1", "http.prot: no such setting; did you mean http.port?"),
        ("config = 'x'", "config: no such setting"),
        ("zzz = 1", "zzz: no such setting"),
        ("maxpeers = 'many'", "maxpeers: 'many' is not a whole number from 0 to 10000"),
        ("maxpeers = 1.5", "maxpeers: expected a whole number"),
        ("maxpeers = true", "maxpeers: expected a whole number"),
        ("only-onion = 1", "only-onion: expected true or false"),
        ("datadir = 5", 'datadir: expected a text: "..."'),
        ("datadir = ['a', 'b']", 'datadir: expected a text: "..."'),
        ("static-nodes = true", "static-nodes: expected a text"),
        ("eth-versions = 69", "eth-versions: expected an array"),
        ("eth-versions = [[69]]", "eth-versions: expected an array"),
        ("port = 1979-05-27", "port: expected a whole number"),
        ("tor-proxy = 'tor.example.org:9050'", "names are not looked up here"),
        ("port = ", "not TOML: "),
        ("port = 1\nport = 2", "not TOML: "),
        ("port = " + "9" * 5000, "not TOML: "),
        ("a = " + "[" * 5000, "not TOML: "),
        ("port = 1\x00", "not TOML: "),
    ],
)
def test_file_with_a_mistake_is_refused_by_its_name(home, config, text, expected):
    path = config(text)
    message = refusal({}, home)
    assert message.startswith(str(path))
    assert expected in message
    assert "\n" not in message


def test_file_that_is_not_utf8_is_refused(home, config):
    config(b'network = "\xff"')
    assert "not UTF-8 text: invalid start byte at byte 11" in refusal({}, home)


def test_file_that_is_huge_is_refused(home, config):
    config(b"#" * (1 << 20) + b"\n")
    assert "larger than" in refusal({}, home)


def test_file_that_was_named_must_be_there(home, tmp_path):
    assert "there is no such file" in refusal({"config": str(tmp_path / "no.toml")}, home)
    assert "Is a directory" in refusal({"config": str(tmp_path)}, home)
    assert "there is no such file" in refusal({}, home | {"PYRELAY_CONFIG": str(tmp_path / "no.toml")})


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("PYRELAY_TOR_PROXI", "x", "PYRELAY_TOR_PROXI: no such setting; did you mean PYRELAY_TOR_PROXY?"),
        ("PYRELAY_PORT", "http", "PYRELAY_PORT: 'http' is not a whole number from 0 to 65535"),
        ("PYRELAY_ONLY_ONION", "ja", "PYRELAY_ONLY_ONION: 'ja' is neither true nor false"),
        ("PYRELAY_TOR_PROXY", "tcp://127.0.0.1:9050", "PYRELAY_TOR_PROXY: "),
    ],
)
def test_environment_with_a_mistake_is_refused_by_its_name(home, variable, text, expected):
    assert expected in refusal({}, home | {variable: text})


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PYRELAY_PORT", "tcp://10.0.0.1:30303"),
        ("PYRELAY_SERVICE_HOST", "10.0.0.1"),
        ("PYRELAY_SERVICE_PORT", "30303"),
        ("PYRELAY_SERVICE_PORT_RLPX", "30303"),
        ("PYRELAY_PORT_30303_TCP", "tcp://10.0.0.1:30303"),
        ("PYRELAY_PORT_30303_TCP_ADDR", "10.0.0.1"),
        ("PYRELAY_METRICS_PORT", "tcp://10.0.0.1:6060"),
        ("PYRELAY_METRICS_SERVICE_HOST", "10.0.0.1"),
        ("PYRELAY_TEST_GETH", "/somewhere"),
    ],
)
def test_what_kubernetes_and_the_test_suite_put_into_the_environment_is_no_setting(home, variable, text):
    settings = load_settings({}, home | {variable: text})
    assert (settings.port, settings.metrics_port) == (30303, 6060)


def test_flag_with_a_mistake_is_refused_by_its_name(home):
    assert refusal({"verbosity": "6"}, home) == "--verbosity: '6' is not a whole number from 0 to 5"


@given(st.binary(max_size=120))
def test_any_bytes_in_the_file_are_settings_or_a_usage_error(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    path = folder / "any.toml"
    path.write_bytes(content)
    with suppress(UsageError):
        load_settings({"config": str(path)}, {"XDG_DATA_HOME": str(folder)})

"""The subcommands, in this process."""

from __future__ import annotations

import json
import stat

import pytest
import structlog

from relay.cli import doctor as doctor_command
from relay.cli.main import main
from relay.observe.redaction import Redactor
from relay.primitives.enode import parse
from relay.primitives.enr import NodeRecord, build_record
from relay.primitives.keys import NodeKey
from relay.primitives.onion import OnionKey
from relay.settings.options import OPTIONS
from tests.aids.peering import key_of, rand_of


@pytest.fixture(autouse=True)
def _alone(monkeypatch, tmp_path):
    """No settings of this machine, and no logging set up for the tests to come."""
    for option in OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("relay.cli.key.configure", lambda _: None)
    yield
    structlog.reset_defaults()


@pytest.fixture
def run(capsys):
    def call(*words: object) -> tuple[int, str, str]:
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


# -- what all have in common


def test_help_fits_the_terminal_and_names_every_flag_with_its_default(run):
    code, out, _ = run("--help")
    assert code == 0
    assert max(len(line) for line in out.splitlines()) <= 80
    plain = " ".join(out.split())
    for option in OPTIONS:
        assert f" --{option.name} " in plain
        if option.default is not None and not option.is_switch:
            assert f"(default: {option.default})" in plain


@pytest.mark.parametrize(
    "command", [("key",), ("enr",), ("config",), ("doctor",), ("version",), ("localnet",)], ids=str
)
def test_each_command_explains_itself(run, command):
    code, out, _ = run(*command, "--help")
    assert (code, f"usage: pyrelay {command[0]}" in out) == (0, True)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["dcotor"], "'dcotor': no such command; did you mean doctor?"),
        (["frobnicate"], "'frobnicate': no such command; known: localnet, key"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
        (["--only-onion", "doctor"], "--only-onion: 'doctor' is neither true nor false"),
        (["--port"], "argument --port: expected one argument"),
        (["--port", "x"], "--port: 'x' is not a whole number"),
        (["--only-on"], "unrecognized arguments: --only-on"),
        (["--only-onion"], "--only-onion needs Tor: add --tor-proxy 127.0.0.1:9050, or --tor-launch"),
        (["--tor-proxy", "tor.example.org:9050"], "names are not looked up here"),
        (["--tor-proxy", "10.0.0.5:9050", "--only-onion"], "is not on this host"),
        (["--onion-target", "pod.svc:30303", "--tor-proxy", "127.0.0.1:9050"], "names are not looked up"),
        (["--clearnet", "maybe"], "--clearnet: 'maybe' is none of: direct, tor, off"),
        (["--network", "holesky"], "known: hoodi, mainnet, sepolia"),
        (["--network", "/dev/null"], "not JSON"),
        (["--config", "/no/such.toml"], "there is no such file"),
        (["key"], "the following arguments are required: action"),
        (["key", "eat"], "invalid choice: 'eat'"),
        (["enr", "decode", "enr:xyz"], "not a node record"),
        (["config", "check", "--maxpeers", "-1"], "--maxpeers"),
        (["version", "please"], "unrecognized arguments: please"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_usage_error_is_one_line_and_exit_code_2(run, words, text):
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert text in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--datadir", "/proc/pyrelay", "--port", "0"], "data folder /proc/pyrelay"),
        (["--datadir", "/dev/null", "--port", "0"], "data folder /dev/null"),
        (["key", "show"], "there is no key; make one by: pyrelay key new"),
        (["key", "show", "--nodekey", "/dev/null"], "/dev/null: not a node key"),
        (["key", "new", "--datadir", "/proc/pyrelay"], "data folder /proc/pyrelay"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_failure_is_one_line_and_exit_code_1(run, words, text, monkeypatch):
    monkeypatch.setattr("relay.cli.daemon.configure", lambda _: Redactor(hide_addresses=False))
    code, _, err = run(*words)
    assert code == 1
    assert text in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_broken_environment_and_file_are_usage_errors(run, monkeypatch, tmp_path):
    monkeypatch.setenv("PYRELAY_MAXPEER", "3")
    assert run("config", "check")[::2] == (
        2,
        "pyrelay: PYRELAY_MAXPEER: no such setting; did you mean PYRELAY_MAXPEERS?\n",
    )
    monkeypatch.delenv("PYRELAY_MAXPEER")
    (tmp_path / "c.toml").write_bytes(b"\xff")
    assert "not UTF-8" in run("config", "check", "--config", tmp_path / "c.toml")[2]


def test_an_interrupt_is_not_a_traceback(run, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("relay.cli.version.run", interrupted)
    assert run("version")[0] == 1


@pytest.mark.parametrize("words", [("version",), ("--version",)])
def test_version_is_told(run, words):
    code, out, _ = run(*words)
    assert (code, out.splitlines()[0]) == (0, "pyrelay 0.1.0")


# -- key


def test_key_new_makes_both_keys_and_show_shows_them(run, tmp_path):
    code, out, _ = run("key", "new", "--json")
    made = json.loads(out)
    assert (code, sorted(made)) == (0, ["enode", "enr", "node_id", "onion"])
    folder = tmp_path / "xdg" / "pyrelay"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    code, out, _ = run("key", "show")
    shown = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert {key: value for key, value in made.items() if key != "enr"}.items() <= shown.items()


def test_key_show_gives_the_public_key_and_an_enode_that_can_be_dialed(run, tmp_path):
    key, onion = NodeKey.generate(rand_of(1)), OnionKey.generate(rand_of(2))
    (tmp_path / "n").write_text(key.secret.hex())
    (tmp_path / "o").write_bytes(onion.to_tor_file())
    words = ("--nodekey", tmp_path / "n", "--onion-key", tmp_path / "o", "--onion-port", 7, "--json")
    shown = json.loads(run("key", "show", *words)[1])
    assert (shown["node_id"], shown["onion"]) == (key.public_key.hex(), onion.address)
    enode = parse(shown["enode"])
    assert (enode.public_key, enode.host, enode.tcp) == (key.public_key, onion.address, 7)
    assert NodeRecord.from_text(shown["enr"]).onion3 is None
    with_onion = json.loads(run("key", "show", *words, "--with-onion")[1])
    assert NodeRecord.from_text(with_onion["enr"]).onion3 == onion.address
    assert not (tmp_path / "xdg").exists(), "show writes nothing"


def test_key_new_never_overwrites(run, tmp_path):
    (tmp_path / "n").write_text("precious")
    code, _, err = run("key", "new", "--nodekey", tmp_path / "n", "--onion-key", tmp_path / "o")
    assert (code, "never overwritten" in err) == (2, True)
    assert (tmp_path / "n").read_text() == "precious"
    assert not (tmp_path / "o").exists()


def test_key_new_into_a_folder_that_is_none_fails(run, tmp_path):
    code, _, err = run("key", "new", "--nodekey", "/dev/null/n", "--onion-key", tmp_path / "o")
    assert (code, "could not be written" in err) == (1, True)


# -- enr


def test_enr_decode_takes_a_record_apart(run):
    onion = OnionKey.generate(rand_of(2)).address
    record = build_record(key_of(1), 5, tcp=30303, onion3=onion)
    code, out, _ = run("enr", "decode", record.to_text())
    shown = json.loads(out)
    assert code == 0
    assert {
        "seq": 5,
        "tcp": 30303,
        "onion3": onion,
        "node_id": key_of(1).public_key.hex(),
    }.items() <= shown.items()
    assert shown["enode"].startswith("enode://")
    assert "ip" not in shown


def test_enr_decode_shows_unknown_entries_and_records_without_an_address(run):
    bare = build_record(key_of(1), 1)
    shown = json.loads(run("enr", "decode", bare.to_text())[1])
    assert "enode" not in shown
    assert set(shown["entries"]) == {"id", "secp256k1"}


# -- config


def test_config_check_says_what_the_settings_amount_to(run):
    code, out, _ = run(
        "config", "check", "--tor-proxy", "127.0.0.1:9050", "--prefer-tor", "--http.api", "eth,net",
        "--single-identity",
    )  # fmt: skip
    lines = {line.split()[0]: line.split()[1] for line in out.splitlines() if len(line.split()) == 2}
    assert code == 0
    assert {
        "prefer-tor": "true",
        "only-onion": "false",
        "tor-proxy": "127.0.0.1:9050",
        "http.api": "eth,net",
        "eth-versions": "68,69,70,71,72",
        "nodekey": "-",
    }.items() <= lines.items()
    assert "mode: prefer-tor; network: mainnet, id 1" in out
    assert "warning: --single-identity: clearnet and onion" in out


# -- doctor


def test_doctor_says_line_by_line_what_is_so(run):
    code, out, _ = run("doctor", "--port", 0, "--metrics.port", 0)
    assert (code, out.startswith("ok   python ")) == (0, True)
    assert all(len(line) <= 80 or len(line.split()[-1]) > 50 for line in out.splitlines())
    assert "\x1b" not in out


def test_doctor_fails_with_a_remedy(run):
    code, out, _ = run("doctor", "--only-onion")
    assert code == 1
    assert "fail settings" in out
    assert "-> add --tor-proxy 127.0.0.1:9050, or --tor-launch" in out
    assert "-    ports          not looked at, since 'settings' failed" in out


def test_doctor_as_json_is_one_object(run):
    code, out, _ = run("doctor", "--json", "--only-onion")
    shown = json.loads(out)
    assert (code, shown["ok"]) == (1, False)
    assert {each["state"] for each in shown["findings"]} == {"ok", "fail", "-"}
    assert all(each["remedy"] for each in shown["findings"] if each["state"] == "fail")


def test_doctor_in_colors_and_without_what_a_terminal_would_act_on():
    finding = doctor_command.Finding(doctor_command.State.FAIL, "a\x1b[2Jb", "mend\nit", "peers")
    lines = doctor_command._lines(finding, 80, colors=True)
    assert lines.startswith("\x1b[31mfail\x1b[0m peers")
    assert "\x1b[2J" not in lines
    assert "-> mend?it" in lines

"""What ``pyrelay monitor`` says to words that make no sense."""

from pathlib import Path

import pytest

from relay.cli.main import main

ONION = "vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd.onion"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--rpc", "ftp://x"), 2, "it is not of the form http://HOST"),
        (("--export", "1.2.3.4.5:x"), 2, "--export"),
        (("--export", "9000", "--json"), 2, "run a second monitor"),
        (("--json", "--csv"), 2, "give one"),
        (("--beacon", "/x/geth.ipc"), 2, "a beacon node's API is http or https"),
        (("--rpc", "http://127.0.0.1:1", "--beacon", "http://127.0.0.1:1"), 2, "not allowed with"),
        (("--rpc", "http://127.0.0.1:1", "--once"), 1, "connection refused"),
        (("--rpc", "http://" + ONION, "--once"), 2, "give --tor-proxy"),
        (("--interval", "0"), 2, "no number of seconds"),
        (("--geo", "/nowhere.mmdb"), 1, "No such file"),
    ],
)
def test_bad_words_are_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, said: str
) -> None:
    try:
        found = main(["monitor", *words, "--datadir", str(tmp_path)])
    except SystemExit as ended:
        found = ended.code
    out, err = capsys.readouterr()

    assert found == code, err
    assert said in err
    assert out == ""

"""The Dockerfile read, and what try_image.py refuses; `make image` builds and runs both images."""

from __future__ import annotations

import io
import json
import re
import runpy
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

DOCKER: Final = Path(__file__).parents[3] / "deployment" / "docker"
STAGES: Final = {
    re.split(r"\s+AS\s+", each.partition("\n")[0])[1]: each.partition("\n")[2]
    for each in re.sub(r"\\\n\s*", "", (DOCKER / "Dockerfile").read_text()).split("\nFROM ")[1:]
}
TRY: Final = runpy.run_path(str(DOCKER / "try_image.py"))
Wrong: Final[type[Exception]] = TRY["Wrong"]
final = pytest.mark.parametrize("stage", ["pyrelay", "tor"])


def words(stage: str, instruction: str) -> list[str]:
    return [
        line.partition(" ")[2] for line in STAGES[stage].splitlines() if line.startswith(f"{instruction} ")
    ]


def test_targets_are_stages_of_their_own() -> None:
    assert list(STAGES) == ["python", "build", "pyrelay", "tor"]


@final
def test_it_runs_by_words_not_by_a_shell_and_as_nobody(stage: str) -> None:
    assert words(stage, "USER") == ["10001:10001"]
    (entry,) = words(stage, "ENTRYPOINT")
    (command,) = words(stage, "CMD")
    assert json.loads(entry)[:2] == ["/usr/bin/tini", "--"]
    assert isinstance(json.loads(command), list)
    for each in words(stage, "HEALTHCHECK"):
        assert json.loads(each.partition(" CMD ")[2])[0].startswith("/opt/pyrelay/bin/")
    assert "pip" not in STAGES[stage]
    assert "PIP_CERT" not in STAGES[stage]


@final
def test_its_version_is_the_package_s(stage: str) -> None:
    version = re.search(r'^version = "(.*)"', (DOCKER.parents[1] / "pyproject.toml").read_text(), re.M)
    assert version is not None
    assert f"VERSION={version[1]}" in words(stage, "ARG")


def test_all_that_is_installed_is_locked_or_ours() -> None:
    installs = re.findall(r"pip\S* (?:--python \S+ )?install [^&\n]*", STAGES["build"])
    assert len(installs) == 3
    for each in installs:
        assert (
            "--require-hashes -r " in each
            or "--require-hashes --only-binary :all: -r " in each
            or ("--no-deps /wheels/" in each)
        )


def test_no_program_of_an_image_changes_its_user() -> None:
    for stage in ("python", "tor"):
        assert "find / -xdev -type f -perm /6000 -exec chmod a-s {} +" in STAGES[stage]


@pytest.fixture
def config() -> dict[str, Any]:
    labels = {"title": "t", "description": "d", "licenses": "l", "version": "1", "revision": "r"}
    return {
        "User": "10001:10001",
        "Entrypoint": ["/usr/bin/tini", "--", "/x"],
        "Cmd": [],
        "Env": [],
        "Labels": {f"org.opencontainers.image.{name}": value for name, value in labels.items()},
        "Healthcheck": {"Test": ["CMD", "/x"]},
    }


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"User": "pyrelay"}, "user 'pyrelay'"),
        ({"User": ""}, "user ''"),
        ({"Entrypoint": ["/x"]}, "process 1 is not tini"),
        ({"Cmd": ["/bin/sh", "-c", "x"]}, "it starts a shell"),
        ({"Labels": {"org.opencontainers.image.version": "1"}}, "labels"),
        ({"Env": ["PIP_CERT=/x"]}, "the build's variables"),
        ({"Healthcheck": None}, "HEALTHCHECK"),
        ({"Healthcheck": {"Test": ["CMD-SHELL", "x"]}}, "HEALTHCHECK"),
    ],
    ids=str,
)
def test_an_image_that_says_wrong_things_is_refused(
    config: dict[str, Any], wrong: dict[str, Any], said: str
) -> None:
    TRY["try_config"](config, "pyrelay", "1", "r")
    with pytest.raises(Wrong, match=said):
        TRY["try_config"]({**config, **wrong}, "pyrelay", "1", "r")


def test_an_image_with_files_that_it_must_not_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners = Path.stat
    monkeypatch.setitem(TRY["try_files"].__globals__, "USER", owners(tmp_path).st_uid)
    for each in ("data", "sockets"):
        (tmp_path / each).mkdir(mode=0o700)
    (tmp_path / "usr" / "bin").mkdir(parents=True)
    program = tmp_path / "usr" / "bin" / "tini"
    program.touch(0o755)
    TRY["try_files"](tmp_path)

    def refused(said: str, make: Callable[[], object], undo: Callable[[], object]) -> None:
        make()
        with pytest.raises(Wrong, match=said):
            TRY["try_files"](tmp_path)
        undo()

    compiler = tmp_path / "usr" / "bin" / "gcc"
    refused("usr/bin/gcc is in it", compiler.touch, compiler.unlink)
    refused("changes its user", lambda: program.chmod(0o4755), lambda: program.chmod(0o755))
    refused("written by all", lambda: program.chmod(0o757), lambda: program.chmod(0o755))
    sources = tmp_path / "source"
    refused("source is in it", sources.mkdir, sources.rmdir)
    refused(
        "/data is not the user's alone",
        lambda: (tmp_path / "data").chmod(0o755),
        lambda: (tmp_path / "data").chmod(0o700),
    )
    TRY["try_files"](tmp_path)


def test_a_bill_of_materials_that_lacks_what_is_there_is_refused(tmp_path: Path) -> None:
    bill = tmp_path / "opt" / "pyrelay" / "share" / "pyrelay" / "sbom.json"
    bill.parent.mkdir(parents=True)
    listed = [{"name": "Some.Thing", "version": "1.0", "purl": "pkg:pypi/some-thing@1.0"}]
    bill.write_text(json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": listed}))
    packages = tmp_path / "opt" / "pyrelay" / "lib" / "python3.13" / "site-packages"
    (packages / "some_thing-1.0.dist-info").mkdir(parents=True)
    assert TRY["try_materials"](tmp_path) == 1
    (packages / "more-2.dist-info").mkdir()
    with pytest.raises(Wrong, match=r"differ in \[\('more', '2'\)\]"):
        TRY["try_materials"](tmp_path)


def test_layers_are_weighed_as_a_registry_keeps_them(tmp_path: Path) -> None:
    archive, layer = tmp_path / "a.tar", bytes(100_000)
    with tarfile.open(archive, "w") as made:
        for name, data in (("0123456789abcdef.tar", layer), ("manifest.json", b"[]")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    (size,) = TRY["compressed"](archive).values()
    assert 100 < size < 1000
    assert abs(size - len(zlib.compress(layer, 6))) < 30

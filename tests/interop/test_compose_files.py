"""The Compose files by the reader that docker compose has: its schema, its merging of anchors, its paths.

No container runs: there is no docker here. What a container does, deployment/docker/test-image.sh tries.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.aids.line_process import ROOT, installed

FOLDER: Final = ROOT / "deployment" / "compose"
FILES: Final = sorted(each.name for each in FOLDER.glob("*.yaml"))


@pytest.fixture(scope="session")
def program() -> str:
    return installed("install-compose.sh")


def read(program: str, file: Path) -> subprocess.CompletedProcess[str]:
    """Read a file as `docker compose config` does, in its folder and without this machine's variables."""
    words = [program, "--format", "json", file.name]
    env = {"PATH": os.environ["PATH"]}
    return subprocess.run(words, cwd=file.parent, capture_output=True, text=True, check=False, env=env)


@pytest.mark.parametrize("name", FILES)
def test_compose_itself_takes_it(program: str, name: str) -> None:
    done = read(program, FOLDER / name)
    assert (done.returncode, done.stderr) == (0, "")
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    for service in services.values():
        build = service["build"]
        assert Path(build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).is_file()
        assert build["target"] in ("pyrelay", "tor")
        assert service["image"].partition(":")[0] == {"tor": "pyrelay-tor"}.get(build["target"], "pyrelay")
        assert all(each["type"] == "volume" for each in service["volumes"])


@pytest.mark.parametrize("name", FILES)
def test_compose_itself_refuses_a_wrong_word(program: str, name: str, tmp_path: Path) -> None:
    changed = tmp_path / name
    changed.write_text((FOLDER / name).read_text().replace("cap_drop:", "cap_dropped:"))
    done = read(program, changed)
    assert done.returncode != 0
    assert "cap_dropped" in done.stdout + done.stderr

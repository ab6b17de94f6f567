"""A folder and a chain for each test file; what the processes wrote is shown where a test fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aids.chain import OwnChain

FOLDER = pytest.StashKey[Path]()
TAIL = 40  # lines of each log in a report
NOISE = ("Served ", "RPC connection read error")  # of our own asking


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes of a test file live; pytest keeps it for three runs."""
    path = tmp_path_factory.mktemp("it")  # short: sockets are below it
    request.node.stash[FOLDER] = path
    return path


@pytest.fixture(scope="module")
def chain(folder: Path) -> OwnChain:
    return OwnChain(folder)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    module = item.getparent(pytest.Module)
    path = module.stash.get(FOLDER, None) if module else None
    if report.failed and path is not None:
        named = (each for each in path.rglob("*.log") if not each.stem.isdigit())  # not those of databases
        for log in sorted(named):
            text = log.read_text("utf-8", "replace").splitlines()
            lines = [line for line in text if not any(word in line for word in NOISE)]
            report.sections.append((f"end of {log}", "\n".join(lines[-TAIL:])))
    return report

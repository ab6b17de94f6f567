"""Reads files of tests/vectors; each names the upstream path and version that it was taken from."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1] / "vectors"


def load(name: str) -> Any:
    vector = json.loads((ROOT / name).read_text())
    assert vector["upstream"], name
    assert vector["version"], name
    return vector

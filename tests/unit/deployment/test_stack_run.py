"""``make run-stack`` without its programs: what it says when one ends, and that all are stopped."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from relay.primitives.errors import LocalError
from tests.aids.stack_monitoring import MONITORING, ROOT

FILE = ROOT / "deployment" / "stack" / "run_stack.py"


@pytest.fixture(scope="module")
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_stack", FILE)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["run_stack"] = found  # dataclasses look their module up
    spec.loader.exec_module(found)
    return found


def test_its_jobs_are_scraped_at_the_same_paths(module: ModuleType) -> None:
    config = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
    paths = {each["job_name"]: each.get("metrics_path", "/metrics") for each in config["scrape_configs"]}
    assert {job: paths[job] for job in module.JOBS} == module.JOBS


def test_a_program_that_ended_is_named_with_the_end_of_its_log(module: ModuleType, tmp_path: Path) -> None:
    stack = module.Stack(tmp_path, {}, dict.fromkeys(module.JOBS, 1))
    stack.start("geth", sys.executable, "-c", "print('no space left'); raise SystemExit(3)")
    stack.children[0][1].wait()
    with pytest.raises(LocalError, match=r"geth ended with 3:\nno space left"):
        stack.check()
    stack.stop()


def test_stop_ends_what_runs(module: ModuleType, tmp_path: Path) -> None:
    stack = module.Stack(tmp_path, {}, dict.fromkeys(module.JOBS, 1))
    stack.start("sleeper", sys.executable, "-c", "import time; time.sleep(600)")
    stack.check()
    stack.stop()
    assert stack.children[0][1].poll() is not None


def test_help_tells_what_it_is() -> None:
    done = subprocess.run(
        [sys.executable, FILE, "--help"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert "Ctrl-C ends all of it" in " ".join(done.stdout.split())

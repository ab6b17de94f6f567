"""Process 1 of a node's namespaces: does what plan.json says, then reaps.

``python -m tests.aids.kube_node_init FOLDER``. Each step has one key: `start` a daemon, `run` a command,
`until` one succeeds. The fixed folders of kubelet, containerd and CNI become memory of this mount namespace,
so that nothing is left on the host; the end of this process is the end of every daemon, pod and mount.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PATIENCE = 240.0  # seconds for an `until`, on a machine with other work
OWN_FOLDERS = (
    "/run/netns", "/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers",
    "/var/log/pods",
)  # fmt: skip


def main() -> None:
    """Prepare the namespaces, take the steps, reap."""
    folder = Path(sys.argv[1])
    for each in OWN_FOLDERS:
        Path(each).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", each], check=True)
    subprocess.run(["mount", "--make-rshared", "/"], check=True)
    for step in json.loads((folder / "plan.json").read_text()):
        _take(folder, step)
    (folder / "started").touch()
    while True:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(1)


def _take(folder: Path, step: dict[str, Any]) -> None:
    if "sysctl" in step:
        Path("/proc/sys", step["sysctl"]).write_text(step["value"])
    elif "start" in step:
        with (folder / f"{step['start']}.log").open("wb") as log:
            subprocess.Popen(
                step["command"], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
    elif "run" in step:
        subprocess.run(step["run"], check=True, stdin=subprocess.DEVNULL)
    else:
        _until(step["until"])


def _until(command: list[str]) -> None:
    end = time.monotonic() + PATIENCE
    while subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode:
        if time.monotonic() > end:
            raise TimeoutError(f"never succeeded: {' '.join(command)}")
        time.sleep(0.2)


if __name__ == "__main__":
    main()

"""Tries a built image as Kubernetes would run it; test-image.sh calls it, as root.

A container of its own here: namespaces for processes, mounts and network (loopback alone), the image's root
read-only, its user, no new privileges, and no shell: /bin/sh is empty there.

usage: try_image.py TARGET INSPECTED ROOT ARCHIVE VERSION REVISION TORRC...
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

USER = 10001
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LIMITS = {"pyrelay": 120, "tor": 120}  # MB, compressed
PATIENCE = 180  # seconds until a program must have answered; it takes two where nothing else runs
BUILDERS = ("cc", "gcc", "g++", "c++", "clang", "ld", "as", "make", "pip", "pip3", "pipx", "uv", "cargo", "go")
ENTER = """
root=$1 work=$2; shift 2
ip link set lo up
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
for each in data sockets; do mount --bind "$work/$each" "$root/$each"; done
for each in sh dash bash; do [ ! -e "$root/usr/bin/$each" ] || mount --bind /dev/null "$root/usr/bin/$each"; done
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs chroot --userspec=10001:10001 --groups= "$root" "$@"
"""
REAP = "import os, time\nif os.fork():\n    os._exit(0)\nos.fork() or os._exit(0)\ntime.sleep(1)"
ASK = """
import urllib.error, urllib.request
try:
    print(urllib.request.urlopen("http://127.0.0.1:6060/readyz", timeout=60).read().decode())
except urllib.error.HTTPError as found:
    print(found.code, found.read().decode())
"""


class Wrong(Exception):
    """What is not as it must be."""


def must(right: object, words: str) -> None:
    """Say what is wrong."""
    if not right:
        raise Wrong(words)


class Image:
    """One that is built: what it says, and its files."""

    def __init__(self, config: dict[str, Any], root: pathlib.Path, work: pathlib.Path) -> None:
        self.config, self.root, self.work, self.log = config, root, work, work / "log"
        self.env = {"PATH": PATH} | dict(each.split("=", 1) for each in config["Env"])
        for each in ("data", "sockets"):
            (work / each).mkdir(mode=0o700)
            os.chown(work / each, USER, USER)

    @contextlib.contextmanager
    def container(self, *args: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start a container of it with these arguments; whatever happens, it is gone at the end."""
        own = ["unshare", "--mount", "--pid", "--net", "--fork", "sh", "-euc", ENTER, "enter"]
        words = [*own, str(self.root), str(self.work), *self.config["Entrypoint"], *args]
        with self.log.open("wb") as out:
            process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT, env=self.env)
        try:
            yield process
        except (Wrong, subprocess.TimeoutExpired) as error:
            raise Wrong(f"{error}; its log: {self.log.read_text()[-3000:]}") from None
        finally:
            for each in children(process.pid):
                os.kill(each, signal.SIGKILL)
            process.kill()
            process.wait()

    def run(self, *args: str, code: int = 0) -> str:
        """Run one to its end, which must be a good one, or that with the code."""
        with self.container(*args) as process:
            process.wait(PATIENCE)
            must(process.returncode == code, f"{' '.join(args)} ends with {process.returncode}")
        return self.log.read_text()

    @contextlib.contextmanager
    def daemon(self, *args: str) -> Iterator[int]:
        """Run one that stays; give process 1 of it as seen from here. It must end well at SIGTERM."""
        with self.container(*args) as process:
            until(lambda: first_of(process.pid) or process.poll() is not None, "no process 1")
            must(process.poll() is None, f"it ends at once with {process.returncode}")
            first = first_of(process.pid)
            yield first
            os.kill(first, signal.SIGTERM)
            process.wait(PATIENCE)
            must(process.returncode == 0, f"it ends with {process.returncode} at SIGTERM")

    def inside(self, process: int, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a program beside process 1, as `exec` of a probe does."""
        enter = ["nsenter", "-t", str(process), "-m", "-p", "-n", "-r", "-w", "-S", str(USER), "-G", str(USER), "--"]
        return subprocess.run(
            [*enter, *words], capture_output=True, text=True, check=False, timeout=PATIENCE, env=self.env
        )


def until(found: Callable[[], object], words: str) -> None:
    """Ask until it is there."""
    end = time.monotonic() + PATIENCE
    while not found():
        must(time.monotonic() < end, words)
        time.sleep(0.2)


def children(process: int) -> list[int]:
    """List the processes that one started."""
    with contextlib.suppress(OSError):
        return [int(each) for each in pathlib.Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


def first_of(outer: int) -> int:
    """Find process 1 of the namespace: 0 until tini runs as it."""
    return next((each for each in children(outer) if name_of(each) == "tini"), 0)


def name_of(process: int) -> str:
    """Name the program of a process."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{process}/exe").rsplit("/", 1)[-1].removesuffix("-static")
    return ""


def status_of(process: int) -> dict[str, str]:
    """Read /proc/PID/status."""
    lines = pathlib.Path(f"/proc/{process}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def beside(first: int) -> list[int]:
    """List the processes of a container."""
    space, found = os.readlink(f"/proc/{first}/ns/pid"), []
    for each in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.readlink(each / "ns" / "pid") == space:
                found.append(int(each.name))
    return found


def compressed(archive: pathlib.Path) -> dict[str, int]:
    """Give each layer's size as a registry would keep it, in bytes."""
    sizes = {}
    with tarfile.open(archive) as whole:
        for member in whole:
            if member.isfile() and member.name.endswith(".tar"):
                packer, file = zlib.compressobj(6, wbits=31), whole.extractfile(member)
                assert file is not None
                packed = 0
                while part := file.read(1 << 20):
                    packed += len(packer.compress(part))
                sizes[member.name[:12]] = packed + len(packer.flush())
    return sizes


def try_config(config: dict[str, Any], target: str, version: str, revision: str) -> None:
    """What the image says of itself."""
    must(config["User"] == f"{USER}:{USER}", f"user {config['User']!r}")
    must(config["Entrypoint"][0] == "/usr/bin/tini", "process 1 is not tini")
    words = config["Entrypoint"] + (config.get("Cmd") or [])
    must(not any(each.rsplit("/", 1)[-1] in ("sh", "bash", "dash") for each in words), "it starts a shell")
    label = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    must(label.get("version") == version and label.get("revision") == revision, f"labels {label}")
    must(label.get("title") and label.get("description") and label.get("licenses"), f"labels {label}")
    must("PIP_CERT" not in str(config["Env"]), "the build's variables are in it")
    health = (config.get("Healthcheck") or {}).get("Test", [])
    must(
        health[:1] == ["CMD"] or target != "pyrelay", f"HEALTHCHECK {health}: another format than Docker's, or a shell"
    )


def try_files(root: pathlib.Path) -> None:
    """Nothing that builds, nothing that changes its user, nothing that all may write."""
    for folder in ("usr/bin", "usr/sbin", "usr/local/bin", "opt/pyrelay/bin"):
        for each in BUILDERS:
            must(not (root / folder / each).exists(), f"{folder}/{each} is in it")
    must(not [*root.glob("opt/*/lib/python*/site-packages/pip"), *root.glob("usr/lib/python3*/**/pip")], "pip is in it")
    for each in ("source", "opt/build", "wheels", "run/secrets/certificates"):
        must(not (root / each).exists(), f"{each} is in it")
    for folder, folders, files in os.walk(root):
        if pathlib.Path(folder) == root:
            folders[:] = [each for each in folders if each not in ("proc", "sys", "dev")]
        for each in files:
            path = pathlib.Path(folder, each)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                must(not mode & (stat.S_ISUID | stat.S_ISGID), f"{path.relative_to(root)} changes its user")
                must(not mode & stat.S_IWOTH, f"{path.relative_to(root)} may be written by all")
    for name in ("data", "sockets"):
        found = (root / name).stat()
        must((found.st_uid, stat.S_IMODE(found.st_mode)) == (USER, 0o700), f"/{name} is not the user's alone")


def try_materials(root: pathlib.Path) -> int:
    """Compare the bill of materials with what is there; give the number of components."""
    bill = json.loads((root / "opt/pyrelay/share/pyrelay/sbom.json").read_text())
    must(
        bill["bomFormat"] == "CycloneDX" and bill["specVersion"] >= "1.6", f"{bill['bomFormat']} {bill['specVersion']}"
    )
    told = {(each["name"].lower(), each["version"]) for each in bill["components"]}
    names = [
        each.name.removesuffix(".dist-info") for each in root.glob("opt/pyrelay/lib/python3*/site-packages/*.dist-info")
    ]
    there = {(name.rpartition("-")[0].replace("_", "-").lower(), name.rpartition("-")[2]) for name in names}
    plain = {(name.replace("_", "-").replace(".", "-"), version) for name, version in told}
    there = {(name.replace(".", "-"), version) for name, version in there}
    must(plain == there, f"the bill of materials and what is there differ in {sorted(plain ^ there)}")
    must(
        all(each.get("purl") or each["name"] == "pyrelay" for each in bill["components"]), "a component without a purl"
    )
    return len(told)


def try_relay(image: Image, version: str) -> None:
    """The programs that a pod runs, and the daemon as it would be without a Tor."""
    must(f"pyrelay {version}" in image.run("version"), "version")
    said = image.run("kubernetes", "identity", "--datadir", "/data/pyrelay", "--cluster", "test", "--namespace", "n",
                     "--pod", "p-0", "--no-publish", "--log-format", "text")  # fmt: skip
    must("Found .onion address" in said, f"identity says {said}")
    with image.daemon("--datadir", "/data/pyrelay", "--only-onion", "--tor-proxy", "127.0.0.1:9") as first:
        health = image.config["Healthcheck"]["Test"][1:]
        until(lambda: image.inside(first, *health).returncode == 0, "the HEALTHCHECK never succeeds")
        try_process_one(first)
        python = health[0]
        said = image.inside(first, python, "-IS", "-c", ASK).stdout
        must(said.startswith("503 "), f"/readyz without a Tor says {said}")
        made = image.inside(first, python, "-IS", "-c", "open('/opt/x', 'w')")
        must(
            "Read-only file system" in made.stderr or "Permission denied" in made.stderr,
            f"/opt is written: {made.stderr}",
        )
        image.inside(first, python, "-IS", "-c", REAP)
        until(lambda: len(beside(first)) == 2, "process 1 leaves what ended a zombie")
    image.run("--no-such-flag", code=2)


def try_process_one(first: int) -> None:
    """Who runs, and as whom."""
    for each in beside(first):
        found = status_of(each)
        must(set(found["Uid"].split()) == {str(USER)}, f"{found['Name']} runs as {found['Uid']}")
        must(int(found["CapEff"], 16) == 0 and found["NoNewPrivs"] == "1", f"{found['Name']} has rights")
    must(len(beside(first)) == 2, f"processes {[name_of(each) for each in beside(first)]}")
    must(status_of(first)["NSpid"].split()[-1] == "1", "tini is not process 1")


def try_tor(image: Image, torrcs: list[str]) -> str:
    """Tor with the files that the overlays give it; with the last one, as in a pod, without a network."""
    said = image.run("--version").splitlines()[0]
    for each in torrcs:
        (image.work / "data" / "torrc").write_text(pathlib.Path(each).read_text())
        image.run("-f", "/data/torrc", "--verify-config")
    with image.daemon("-f", "/data/torrc") as first:
        until(lambda: "Bootstrapped 0%" in image.log.read_text(), "Tor does not start")
        must((image.work / "sockets" / "control.cookie").is_file(), "no cookie of the control port")
        try_process_one(first)
    return said


def main() -> None:
    """Try one image and say in a line what it is."""
    target, inspected, root, archive, version, revision, *torrcs = sys.argv[1:]
    config = json.loads(pathlib.Path(inspected).read_text())["Docker"]["config"]
    folder = pathlib.Path(root)
    try_config(config, target, version, revision)
    try_files(folder)
    sizes = compressed(pathlib.Path(archive))
    megabytes = sum(sizes.values()) / 1e6
    must(megabytes < LIMITS[target], f"{megabytes:.0f} MB compressed")
    told = f"{megabytes:.1f} MB compressed (layers {', '.join(f'{each / 1e6:.1f}' for each in sizes.values())})"
    if target == "pyrelay":
        told += f", {try_materials(folder)} components"
    with tempfile.TemporaryDirectory() as work:
        image = Image(config, folder, pathlib.Path(work))
        if target == "pyrelay":
            try_relay(image, version)
        else:
            told += ", " + try_tor(image, torrcs)
    print(told)


if __name__ == "__main__":
    try:
        main()
    except Wrong as error:
        sys.exit(str(error))

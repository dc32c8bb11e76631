#!/usr/bin/env python3
"""Ask gtdnet serve by many clients at a time, most of them badly behaved, and see what is left.

Clients send good videos, too many bytes (said before, or not), damaged videos, videos that trickle
or stand still; they go in the middle of a request; cameras come and vanish without a word. Whoever
waits for an answer must get one. Meanwhile the memory of the server and its processes is read, and
what lies in its files; afterwards it is told to end, and nothing may be left: no file, no process.
Exit status 1 if anything is otherwise.

    python benchmarks/load.py --minutes 1
    python benchmarks/load.py --minutes 5 --clients 50 --output benchmarks/results/load.yaml
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from gtdnet.bench.result import envelope, save
from gtdnet.data.spec import ClipSpec
from gtdnet.models import create_model, save_model

MEGABYTES, QUEUE, SECONDS, CAMERAS = 8, 24, 30.0, 6
OPTIONS = [
    "--port=0", "--device=cpu", f"--max_megabytes={MEGABYTES}", f"--queue={QUEUE}",
    f"--timeout={SECONDS:g}", f"--cameras={CAMERAS}", "--camera_idle=5", "--json",
]  # fmt: skip
MOST = 2 * SECONDS  # seconds that anybody waits
CLASSES = tuple("abcdefghij")


class Load:
    """What is sent, and what came back: statuses by kind, seconds of those answered, faults."""

    def __init__(self, address: tuple[str, int], folder: Path, minutes: float) -> None:
        self.address, self.until = address, time.monotonic() + 60 * minutes
        self.statuses: dict[str, Counter[str]] = defaultdict(Counter)
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.faults: list[str] = []
        self._lock = threading.Lock()
        self._short = write_video(folder / "short.mp4", 2).read_bytes()
        self._long = write_video(folder / "long.mp4", 20).read_bytes()
        self._jpeg = make_jpeg()
        self._kinds: dict[str, tuple[float, Callable[[random.Random], str]]] = {
            "good": (40, self._good),
            "good, with windows and picture": (10, self._windows),
            "too many bytes, said": (5, self._huge),
            "too many bytes, not said": (5, self._chunked),
            "damaged": (10, self._damaged),
            "slow": (8, self._slow),
            "stands still": (2, self._still),
            "goes away": (8, self._goes),
            "camera": (6, self._camera),
            "camera that vanishes": (6, self._vanishing),
        }

    def client(self, number: int, seed: int) -> None:
        """One client: one thing after another."""
        rng = random.Random(f"{seed} {number}")
        weights = [weight for weight, _ in self._kinds.values()]
        while time.monotonic() < self.until:
            (kind,) = rng.choices(list(self._kinds), weights)
            began = time.monotonic()
            try:
                status = self._kinds[kind][1](rng)
            except Exception as error:
                status = "no answer"
                self._fault(f"{kind}: {type(error).__name__}: {error}")
            with self._lock:
                self.statuses[kind][status] += 1
                self.seconds[kind].append(time.monotonic() - began)
            if status == "503":
                time.sleep(rng.uniform(0.2, 1))

    def _fault(self, text: str) -> None:
        with self._lock:
            self.faults.append(text)

    # ------------------------------------------------------------------------------------ videos

    def _good(self, rng: random.Random) -> str:
        return self._put([self._short], len(self._short))

    def _windows(self, rng: random.Random) -> str:
        return self._put([self._long], len(self._long), "?window=auto&picture=true")

    def _huge(self, rng: random.Random) -> str:
        size = rng.randint(2, 50) * MEGABYTES * 10**6
        return self._put(zeros(size), size)

    def _chunked(self, rng: random.Random) -> str:
        return self._put(zeros(rng.randint(2, 4) * MEGABYTES * 10**6), None)

    def _damaged(self, rng: random.Random) -> str:
        video = bytearray(self._short[: rng.randint(1, len(self._short))])
        for _ in range(20):
            video[rng.randrange(len(video))] = rng.randrange(256)
        return self._put([bytes(video)], len(video))

    def _slow(self, rng: random.Random) -> str:
        step = max(1, len(self._short) // rng.randint(3, 12))
        parts = [self._short[i : i + step] for i in range(0, len(self._short), step)]
        return self._put(parts, len(self._short), pause=rng.uniform(0.2, 2))

    def _still(self, rng: random.Random) -> str:
        return self._put([self._short[:1000]], len(self._short))

    def _goes(self, rng: random.Random) -> str:
        with socket.create_connection(self.address, timeout=MOST) as connection:
            part = rng.choice([self._short[: len(self._short) // 2], self._short])
            connection.sendall(self._head(len(self._short)) + part)
            time.sleep(rng.uniform(0, 0.5))
        return "went"

    def _head(self, size: int | None, query: str = "") -> bytes:
        length = "Transfer-Encoding: chunked" if size is None else f"Content-Length: {size}"
        host = f"Host: 127.0.0.1:{self.address[1]}"
        lines = [f"PUT /v1/predict{query} HTTP/1.1", host, length, "Connection: close", "", ""]
        return "\r\n".join(lines).encode()

    def _put(self, parts: Any, size: int | None, query: str = "", pause: float = 0.0) -> str:
        """Send a video, read the answer; its status."""
        with socket.create_connection(self.address, timeout=MOST) as connection:
            connection.sendall(self._head(size, query))
            try:
                for part in parts:
                    data = part if size is not None else b"%x\r\n%b\r\n" % (len(part), part)
                    connection.sendall(data)
                    time.sleep(pause)
                if size is None:
                    connection.sendall(b"0\r\n\r\n")
            except OSError:  # answered and closed before all had gone
                pass
            answer = b""
            while (data := self._read(connection, answer)) is not None:
                answer += data
            head, _, body = answer.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 "):
                raise ValueError(f"not an answer: {answer[:80]!r}")
            status, found = head.split()[1].decode(), json.loads(body)
            if status != "200" and not found["error"].endswith("."):
                raise ValueError(f"a refusal without a sentence: {body[:80]!r}")
            return status

    @staticmethod
    def _read(connection: socket.socket, so_far: bytes) -> bytes | None:
        """The next part of an answer; None when it is whole."""
        head, end, body = so_far.partition(b"\r\n\r\n")
        if end:
            fields = head.lower().split(b"\r\n")
            sizes = [int(f.split(b":")[1]) for f in fields if f.startswith(b"content-length:")]
            if sizes and len(body) >= sizes[0]:
                return None
        data = connection.recv(1 << 20)
        if not data:
            raise ConnectionError(f"it ended after {len(so_far)} bytes")
        return data

    # ----------------------------------------------------------------------------------- cameras

    def _camera(self, rng: random.Random, vanishes: bool = False) -> str:
        address = f"ws://127.0.0.1:{self.address[1]}/v1/camera"
        with connect(address, proxy=None, open_timeout=MOST, close_timeout=5) as camera:
            hello = json.loads(camera.recv(timeout=MOST))
            if "error" in hello:
                return hello["code"]
            until = time.monotonic() + rng.uniform(1, 8)
            while time.monotonic() < until:
                camera.send(self._jpeg)
                if "error" in json.loads(camera.recv(timeout=MOST)):
                    return "error"
                time.sleep(1 / hello["rate"])
            if vanishes:
                camera.socket.shutdown(socket.SHUT_RDWR)
                return "vanished"
            return "watched"

    def _vanishing(self, rng: random.Random) -> str:
        try:
            return self._camera(rng, vanishes=True)
        except (WebSocketException, OSError):  # what closing says of a cut connection
            return "vanished"


def zeros(size: int) -> Iterator[bytes]:
    part = b"\0" * (1 << 18)
    for start in range(0, size, len(part)):
        yield part[: size - start]


def write_video(path: Path, seconds: int) -> Path:
    """Noise that moves, 320x240, 25 frames a second."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 1000, 3)).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.bit_rate = 2_000_000
        for i in range(25 * seconds):
            picture = np.ascontiguousarray(noise[:, 3 * i % 600 :][:, :320])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def make_jpeg() -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((320, 240)).save(buffer, "JPEG")
    return buffer.getvalue()


def make_model(folder: Path) -> Path:
    torch.manual_seed(0)
    model = create_model("gtdnet_resnet18", len(CLASSES), 8, width=0.25)
    spec = ClipSpec(CLASSES, num_segments=8, short_side=128, crop_size=112)
    folder.mkdir()
    return save_model(folder / "model.safetensors", model, spec)


# ------------------------------------------------------------------------------ what is looked at


def family(pid: int) -> list[int]:
    """A process and all that it has started, directly or not."""
    children: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # just ended
                continue
            children[int(fields[1])].append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children[found[-1]]
    return found


def memory(pids: list[int]) -> float:
    """MiB of memory of their own that processes take together, what they share counted once.

    Not the code of libraries: how much of that is theirs changes with who else runs it.
    """
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss_Anon:"))
    return total / 1024


def open_files(pid: int, folder: Path) -> tuple[int, float]:
    """How many files a process has open, and MB in those of the folder."""
    number, size = 0, 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            number += 1
            if os.readlink(entry).startswith(str(folder)) and entry.is_file():  # noqa: PTH115
                size += entry.stat().st_blocks * 512
        except OSError:
            continue
    return number, size / 1e6


class Watch(threading.Thread):
    """Memory, files and processes of a server, every second."""

    def __init__(self, pid: int, folder: Path) -> None:
        super().__init__(daemon=True)
        self._pid, self._folder, self._done = pid, folder, threading.Event()
        self.rows: list[tuple[float, float, int, float, int]] = []

    def run(self) -> None:
        began = time.monotonic()
        while not self._done.wait(1):
            pids = family(self._pid)
            files, megabytes = open_files(self._pid, self._folder)
            row = (time.monotonic() - began, memory(pids), files, megabytes, len(pids))
            self.rows.append(row)

    def end(self) -> dict[str, Any]:
        self._done.set()
        self.join()
        third = len(self.rows) // 3
        return {
            "memory_mib": {
                "first third, most": round(max(row[1] for row in self.rows[: third or 1])),
                "last third, most": round(max(row[1] for row in self.rows[-third or -1 :])),
            },
            "files_open_most": max(row[2] for row in self.rows),
            "disk_mb_most": round(max(row[3] for row in self.rows), 1),
            "disk_mb_allowed": QUEUE * MEGABYTES,
            "processes_most": max(row[4] for row in self.rows),
        }


def metric(address: tuple[str, int], name: str) -> float:
    import urllib.request

    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{address[1]}/metrics", timeout=MOST) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


def run(minutes: float, clients: int, seed: int) -> tuple[dict[str, Any], list[str]]:
    """Serve, ask, end: what was found, and faults."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        temporary = folder / "temporary"
        temporary.mkdir()
        command = [sys.executable, "-m", "gtdnet", "serve", str(make_model(folder / "tiny"))]
        log = folder / "log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [*command, *OPTIONS], stdout=subprocess.PIPE, stderr=errors, text=True,
                env={**os.environ, "TMPDIR": str(temporary)},
            )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise SystemExit(log.read_text())
            address = ("127.0.0.1", int(json.loads(line)["url"].rpartition(":")[2]))
            load = Load(address, folder, minutes)
            watch = Watch(process.pid, temporary)
            watch.start()
            threads = [
                threading.Thread(target=load.client, args=(number, seed))
                for number in range(clients)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            faults = load.faults
            until = time.monotonic() + 30
            names = ("gtdnet_at_hand ", "gtdnet_waiting ", "gtdnet_cameras ")
            while (left := [n for n in names if metric(address, n)]) and time.monotonic() < until:
                time.sleep(0.2)
            faults += [f"{name.strip()} is not 0 when all have gone" for name in left]
            replaced = metric(address, "gtdnet_decoders_replaced_total")
            looked = watch.end()
            children = family(process.pid)
            process.send_signal(signal.SIGTERM)
            if (code := process.wait(60)) != 143:
                faults.append(f"it ended with {code}, not 143")
        finally:
            process.kill()
        until = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in children) and time.monotonic() < until:
            time.sleep(0.2)
        faults += [f"process {pid} is left" for pid in children if Path(f"/proc/{pid}").exists()]
        faults += [f"{path.name} is left" for path in temporary.iterdir()]
        faults += [f"the log: {one}" for one in log.read_text().splitlines() if "rror" in one]
        if looked["disk_mb_most"] > looked["disk_mb_allowed"]:
            faults.append("more lies on the disk than may")
        before, after = looked["memory_mib"].values()
        if after > 1.25 * before + 50:
            faults.append(f"memory grows: {before} MiB, then {after}")
    answered = {kind: dict(sorted(load.statuses[kind].items())) for kind in sorted(load.statuses)}
    seconds = {
        kind: {
            "median": round(float(np.median(load.seconds[kind])), 2),
            "p99": round(float(np.quantile(load.seconds[kind], 0.99)), 2),
        }
        for kind in sorted(load.seconds)
    }
    total = sum(sum(counts.values()) for counts in load.statuses.values())
    return {
        "clients": clients,
        "minutes": minutes,
        "options": " ".join(OPTIONS),
        "requests": total,
        "answers": answered,
        "seconds": seconds,
        "decoders_replaced": int(replaced),
        **looked,
    }, faults


def main() -> int:
    """Run it and tell what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="default: 5")
    parser.add_argument("--clients", type=int, default=50, help="default: 50")
    parser.add_argument("--seed", type=int, default=0, help="of what they do (default: 0)")
    parser.add_argument("--output", help="a YAML file for what was found")
    args = parser.parse_args()
    line = f"python benchmarks/load.py --minutes {args.minutes:g} --clients {args.clients}"
    packages = ["fastapi", "uvicorn", "websockets"]
    title = "Under load"
    result = envelope("load", title, f"{line} --seed {args.seed}", torch.device("cpu"), packages)
    result.pop("bench")  # no bench of gtdnet's own
    found, faults = run(args.minutes, args.clients, args.seed)
    print(json.dumps(found, indent=1))
    print(f"{len(faults)} faults", *faults[:20], sep="\n  ")
    save({**result, **found, "faults": faults}, args.output)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

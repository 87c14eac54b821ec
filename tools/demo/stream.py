"""A steady stream of real digit images through the front door, and an honest account of every answer."""

from __future__ import annotations

import asyncio
import base64
import io
import random
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import aiohttp
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

REVISION_HEADER = "x-mlserve-revision"


@dataclass
class Tally:
    """What one revision (or nobody) answered."""

    requests: int = 0
    correct: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        """Requests that did not end with 200."""
        return self.requests - self.statuses[200]


def encoded_digits(count: int = 400, seed: int = 7) -> list[tuple[bytes, int]]:
    """Bodies of `POST /predict` with PNG images of handwritten digits, each with its label."""
    digits = load_digits()
    chosen = random.Random(seed).sample(range(len(digits.target)), count)
    return [(_body(digits.images[i]), int(digits.target[i])) for i in chosen]


def _body(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.round(pixels * (255 / 16)).astype(np.uint8), mode="L").save(buffer, "PNG")
    return b'{"image": "' + base64.b64encode(buffer.getvalue()) + b'"}'


class Stream:
    """Requests at a fixed rate from a thread of its own, open loop: a slow answer delays no other request."""

    def __init__(self, url: str, rate: float) -> None:
        self._url = f"{url}/predict"
        self._rate = rate
        self._bodies = encoded_digits()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._tallies: dict[str, Tally] = defaultdict(Tally)
        self.sent = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="stream", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Send no more and wait for what is under way."""
        self._stop.set()
        self._thread.join(timeout=60)

    def tallies(self) -> dict[str, Tally]:
        """Counts so far by the revision that answered (`-` where no answer came)."""
        with self._lock:
            return {
                revision: Tally(t.requests, t.correct, Counter(t.statuses), Counter(t.errors))
                for revision, t in self._tallies.items()
            }

    async def _run(self) -> None:
        generator = random.Random(11)
        connector = aiohttp.TCPConnector(limit=128)
        timeout = aiohttp.ClientTimeout(total=20)
        pending: set[asyncio.Task[None]] = set()
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            begin = time.perf_counter()
            while not self._stop.is_set():
                due = int((time.perf_counter() - begin) * self._rate)
                for _ in range(due - self.sent):
                    body, label = generator.choice(self._bodies)
                    task = asyncio.create_task(self._one(session, body, label))
                    pending.add(task)
                    task.add_done_callback(pending.discard)
                self.sent = max(self.sent, due)
                await asyncio.sleep(1 / self._rate)
            if pending:
                await asyncio.wait(pending, timeout=30)

    async def _one(self, session: aiohttp.ClientSession, body: bytes, label: int) -> None:
        revision, status, correct, problem = "-", 0, False, ""
        try:
            async with session.post(self._url, data=body, headers={"content-type": "application/json"}) as answer:
                revision, status = answer.headers.get(REVISION_HEADER, "-"), answer.status
                if status == 200:
                    correct = str((await answer.json()).get("prediction")) == str(label)
                else:
                    problem = f"{status} {(await answer.text())[:120]}"
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"[:160]
        with self._lock:
            tally = self._tallies[revision]
            tally.requests += 1
            tally.correct += correct
            tally.statuses[status] += 1
            if problem:
                tally.errors[problem] += 1

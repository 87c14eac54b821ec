"""A pod that costs next to nothing: the ports, probes and counters of a runtime pod, its counts told by a script.

What is under test is the operator; hundreds of rollouts with real models would only measure torch. The counts follow
`<scripts>/<namespace>.<model>.json` (`{"started": seconds, "rate": per second, "total": requests}`), the same for
every pod of a model, so that all arms see the same requests at the same time. A version whose name begins with `bad`
says that it failed every second request; a `liar` speaks for another revision, and a `slow` one takes ten seconds to
say anything. Standard library only: it starts in a few hundredths of a second.

    model_server.py SCRIPTS serve
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path

HTTP_PORT, MANAGEMENT_PORT = 8080, 9090
SLOW_SECONDS = 10.0


def snapshot(scripts: Path) -> dict[str, object]:
    """The answer of `/telemetry` at this moment."""
    environment = os.environ
    name, version = environment["MLSERVE_MODEL_NAME"], environment.get("MLSERVE_MODEL_VERSION", "")
    try:
        script = json.loads((scripts / f"{environment['MLSERVE_NAMESPACE']}.{name}.json").read_text())
        count = min(int(script["rate"] * (time.time() - script["started"])), script["total"])
    except FileNotFoundError:
        count = 0
    bad = count // 2 if version.startswith("bad") else 0
    return {
        "name": name,
        "revision": "somebody-else" if version.startswith("liar") else environment["MLSERVE_REVISION"],
        "version": version,
        "podUid": environment["MLSERVE_POD_UID"],
        "bootId": str(os.getpid()),
        "ready": True,
        "live": {"requests": count, "rows": count, "serverErrors": bad, "latency": [0] * 20 + [count]},
    }


async def answer(scripts: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer requests until the client hangs up; predictions with an empty object."""
    try:
        while line := await reader.readline():
            path = line.split()[1].decode()
            length = 0
            while (header := await reader.readline()) not in (b"\r\n", b""):
                name, _, value = header.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            await reader.readexactly(length)
            status, body = "200 OK", b"{}"
            if path == "/telemetry":
                await asyncio.sleep(
                    SLOW_SECONDS if os.environ.get("MLSERVE_MODEL_VERSION", "").startswith("slow") else 0
                )
                body = json.dumps(snapshot(scripts)).encode()
            elif path == "/profile":
                status = "404 Not Found"
            head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
    except (ConnectionError, IndexError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def serve(scripts: Path) -> None:
    """Listen where the node says this pod lives."""
    host = os.environ["MLSERVE_BIND_HOST"]
    for port in (HTTP_PORT, MANAGEMENT_PORT):
        await asyncio.start_server(lambda *streams: answer(scripts, *streams), host, port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[2] == "serve":  # `fetch` has nothing to do: there is no model
        asyncio.run(serve(Path(sys.argv[1])))

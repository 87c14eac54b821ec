"""`kubectl exec`: a command in the environment and directory of a container, its streams over one WebSocket.

The protocols are `v4.channel.k8s.io` and `v5.channel.k8s.io`: the first byte of a message names the stream, the end
is a Status on the error stream; v5 adds a message that closes standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import struct
import subprocess
import termios
from typing import Any, Final

from aiohttp import WSMsgType, web

from mlserve_local.node.container import Container
from mlserve_local.node.images import executable
from mlserve_local.node.prepare import Execution
from mlserve_local.processes import Process

PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_CHUNK: Final = 32 * 1024


async def serve(request: web.Request, container: Container) -> web.StreamResponse:
    """Answer one exec request. Only WebSockets are understood; kubectl has used them since 1.31."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise web.HTTPBadRequest(text="exec: this node speaks WebSocket (v5.channel.k8s.io), not SPDY")
    if container.process is None or container.execution is None:
        raise web.HTTPBadRequest(text=f'container "{container.record.name}" is not running')
    socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=1 << 24, heartbeat=30)
    await socket.prepare(request)
    if socket.ws_protocol is None:
        await socket.close(code=1002, message=f"expected a protocol of {', '.join(PROTOCOLS)}".encode())
        return socket
    command = [container.execution.rewrite(word) for word in request.query.getall("command", [])]
    terminal = _flag(request, "tty")
    status = await _run(socket, container.execution, command, terminal=terminal, stdin=_flag(request, "stdin"))
    with contextlib.suppress(ConnectionError):
        await socket.send_bytes(bytes([ERROR]) + json.dumps(status).encode())
        await socket.close()
    return socket


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "") in ("true", "1")


async def _run(
    socket: web.WebSocketResponse, execution: Execution, command: list[str], *, terminal: bool, stdin: bool
) -> dict[str, Any]:
    program = executable(command[0], execution.env["PATH"]) if command else None
    if program is None:
        shown = command[0] if command else ""
        return _failure(f'exec: "{shown}": executable file not found in $PATH')
    streams = _Terminal() if terminal else _Pipes(stdin=stdin)
    try:
        process = Process.spawn(
            [program, *command[1:]],
            env=execution.env | ({"TERM": "xterm"} if terminal else {}),
            cwd=execution.cwd,
            stdin=streams.child_stdin,
            stdout=streams.child_stdout,
            stderr=streams.child_stderr,
        )
    except OSError as error:
        streams.close()
        return _failure(str(error))
    streams.started()
    outputs = [asyncio.create_task(_copy_out(socket, channel, fd)) for channel, fd in streams.outputs]
    inputs = asyncio.create_task(_copy_in(socket, streams, process))
    try:
        code = await process.wait()
        await asyncio.wait(outputs, timeout=2)
    finally:
        process.kill()
        for task in (*outputs, inputs):
            task.cancel()
        await asyncio.gather(*outputs, inputs, return_exceptions=True)
        streams.close()
    return {"metadata": {}, "status": "Success"} if code == 0 else _exit_status(code)


def _exit_status(code: int) -> dict[str, Any]:
    causes = [{"reason": "ExitCode", "message": str(code)}]
    message = f"command terminated with non-zero exit code: exit status {code}"
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": message,
        "details": {"causes": causes},
    }


def _failure(message: str) -> dict[str, Any]:
    """The command never ran: a kubelet calls that an internal error."""
    text = f"Internal error occurred: error executing command in container: {message}"
    return {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": text, "code": 500}


class _Pipes:
    """Separate pipes, as without a terminal."""

    def __init__(self, *, stdin: bool) -> None:
        self.child_stdin, self.stdin = os.pipe() if stdin else (subprocess.DEVNULL, -1)
        out, self.child_stdout = os.pipe()
        err, self.child_stderr = os.pipe()
        self.outputs = [(STDOUT, out), (STDERR, err)]

    def started(self) -> None:
        """The child has its ends."""
        for descriptor in (self.child_stdin, self.child_stdout, self.child_stderr):
            if descriptor >= 0:
                os.close(descriptor)
        self.child_stdin = self.child_stdout = self.child_stderr = -1

    def end_input(self) -> None:
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def resize(self, width: int, height: int) -> None:
        del width, height

    def close(self) -> None:
        self.end_input()
        for descriptor in (self.child_stdin, self.child_stdout, self.child_stderr, *(fd for _, fd in self.outputs)):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self.outputs = []


class _Terminal(_Pipes):
    """One pseudo terminal for all streams."""

    def __init__(self) -> None:
        master, slave = os.openpty()
        self.stdin = os.dup(master)
        self.child_stdin = self.child_stdout = self.child_stderr = slave
        self.outputs = [(STDOUT, master)]

    def started(self) -> None:
        os.close(self.child_stdin)
        self.child_stdin = self.child_stdout = self.child_stderr = -1

    def end_input(self) -> None:
        if self.stdin >= 0:
            with contextlib.suppress(OSError):
                os.write(self.stdin, b"\x04")
            os.close(self.stdin)
            self.stdin = -1

    def resize(self, width: int, height: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.outputs[0][1], termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


async def _copy_out(socket: web.WebSocketResponse, channel: int, descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    while True:
        readable = loop.create_future()
        loop.add_reader(descriptor, lambda future=readable: future.done() or future.set_result(None))  # type: ignore[misc]
        try:
            await readable
        finally:
            loop.remove_reader(descriptor)
        try:
            data = os.read(descriptor, _CHUNK)
        except OSError:  # EIO: the last process has closed the terminal
            return
        if not data:
            return
        await socket.send_bytes(bytes([channel]) + data)


async def _copy_in(socket: web.WebSocketResponse, streams: _Pipes, process: Process) -> None:
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel == STDIN and streams.stdin >= 0:
            try:
                await asyncio.to_thread(os.write, streams.stdin, data)
            except BrokenPipeError:
                streams.end_input()
        elif channel == CLOSE and data[:1] == bytes([STDIN]):
            streams.end_input()
        elif channel == RESIZE:
            with contextlib.suppress(ValueError, KeyError):
                size = json.loads(data)
                streams.resize(int(size["Width"]), int(size["Height"]))
    # The client is gone: nobody reads what the command still says.
    process.kill()

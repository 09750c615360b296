"""The app in a browser: on 127.0.0.1 alone, for who has the token, for no other site; and it really runs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from app_kit import environment, project

from loratui.cli import main, serving


def test_only_this_machine_and_no_other_site() -> None:
    assert serving.allowed("127.0.0.1:8000", None)
    assert serving.allowed("localhost:9000", "http://localhost:9000")
    assert not serving.allowed("evil.example:8000", None), "a name that resolves here"
    assert not serving.allowed("localhost:8000", "http://evil.example")
    assert not serving.allowed("localhost:8000", "http://localhost:1")
    assert not serving.allowed("", None)


def test_what_is_wrong_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(tmp_path / "none")]) == 2
    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda name: None)
    assert main(["serve", str(tmp_path)]) == 2
    assert "pip install textual-serve" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda name: True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["serve", str(tmp_path), "--port", str(taken.getsockname()[1])]) == 2
    assert "cannot be used" in capsys.readouterr().err


async def test_the_app_is_served_to_who_has_the_token(tmp_path: Path) -> None:
    pytest.importorskip("textual_serve")
    aiohttp = pytest.importorskip("aiohttp")
    root = project(tmp_path / "sks-robot", 2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | environment(tmp_path) | {"PYTHONUNBUFFERED": "1"}
    env["PYTHONPATH"] = os.pathsep.join([env["PYTHONPATH"], *sys.path])
    served = subprocess.Popen(
        [sys.executable, "-m", "loratui", "serve", str(root), "--port", str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env,
    )  # fmt: skip
    try:
        assert served.stdout is not None
        address = re.search(r"http://\S+", served.stdout.readline())[0]  # type: ignore[index]
        base = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as outside:
            for _ in range(100):
                try:
                    async with outside.get(base) as answer:
                        assert answer.status == 403
                        break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.1)
            async with outside.get(f"{base}/ws") as answer:
                assert answer.status == 403
            async with outside.get(f"{base}/?token=wrong") as answer:
                assert answer.status == 403
            async with outside.get(address, headers={"Host": f"evil.example:{port}"}) as answer:
                assert answer.status == 403
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            async with browser.get(address) as answer:
                page = await answer.text()
                assert answer.status == 200 and "token" not in str(answer.url)
            assert f"ws://127.0.0.1:{port}/ws" in page
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await browser.ws_connect(f"{base}/ws", headers={"Origin": "http://evil.example"})
            async with browser.ws_connect(f"{base}/ws?width=100&height=30") as link:
                shown = ""
                while "sks robot" not in shown or "Dataset" not in shown:
                    message = await asyncio.wait_for(link.receive(), 60)
                    assert message.type in {aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT}, shown
                    if message.type == aiohttp.WSMsgType.BINARY:
                        shown += message.data.decode("utf-8", "replace")
                await link.send_str(json.dumps(["stdin", "6"]))
                while "No runs yet" not in shown:
                    message = await asyncio.wait_for(link.receive(), 60)
                    if message.type == aiohttp.WSMsgType.BINARY:
                        shown += message.data.decode("utf-8", "replace")
    finally:
        served.terminate()
        served.wait(20)

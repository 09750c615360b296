"""`loratui get` against a server on this machine that speaks the few endpoints of the Hub it needs."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from app_kit import APP, environment

from loratui.demo import base_path

COMMIT = "a" * 40
TOKEN = "hf_" + "s3cret" * 5


class Hub:
    """Repositories by id, each name -> bytes; what was asked for is kept."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.sent: list[tuple[str, int]] = []
        """(file, first byte) of each that was sent."""
        self.cut = 0
        """Send so many bytes of a file of that size or more, then hang up; 0 sends all."""
        self.sizes: dict[str, int] = {}
        """File -> size to claim."""
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Silent."""

            def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
                self.send_response(status)
                for key, value in ({"Content-Length": str(length)} | headers).items():
                    self.send_header(key, value)
                self.end_headers()

            def _json(self, value: object, status: int = 200, **headers: str) -> None:
                raw = json.dumps(value).encode()
                self._head(status, len(raw), {"Content-Type": "application/json", **headers})
                self.wfile.write(raw)

            def do_HEAD(self) -> None:
                self._serve(body=False)

            def do_GET(self) -> None:
                self._serve(body=True)

            def _serve(self, body: bool) -> None:
                path = self.path.split("?")[0].strip("/")
                api = path.startswith("api/models/")
                parts = path.removeprefix("api/models/").split("/")
                repo = hub.repositories.get("/".join(parts[:2]))
                if repo is None:
                    self._json({"error": "no"}, 404, **{"X-Error-Code": "RepoNotFound"})
                elif api and "tree" in parts:
                    self._json(
                        [{"type": "file", "path": n, "size": len(d), "oid": n} for n, d in repo.items()]
                    )
                elif api:
                    files = [{"rfilename": n, "size": hub.sizes.get(n, len(d))} for n, d in repo.items()]
                    self._json({"id": "/".join(parts[:2]), "sha": COMMIT, "siblings": files, "tags": []})
                else:
                    self._file(repo, "/".join(parts[4:]), body)

            def _file(self, repo: dict[str, bytes], name: str, body: bool) -> None:
                data = repo[name]
                first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
                headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
                headers |= {"Accept-Ranges": "bytes", "X-Linked-Size": str(len(data))}
                if first:
                    headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
                self._head(206 if first else 200, len(data) - first, headers)
                if not body:
                    return
                hub.sent.append((name, first))
                part = data[first:]
                if hub.cut and len(part) > hub.cut:
                    self.wfile.write(part[: hub.cut])
                    self.wfile.flush()
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.wfile.write(part)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A Hub with the bundled base as `owner/tiny`, among files that nobody needs."""
    made = Hub()
    base = Path(base_path())
    files = {p.relative_to(base).as_posix(): p.read_bytes() for p in base.rglob("*") if p.is_file()}
    extra = ("unet/diffusion_pytorch_model.bin", "safety_checker/model.safetensors", "README.md", "v1.ckpt")
    made.repositories["owner/tiny"] = files | dict.fromkeys(extra, b"x" * 1000)
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()


def get(tmp_path: Path, endpoint: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run it with a cache and a token of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    env |= environment(tmp_path) | {
        "HF_HOME": str(tmp_path / "hf"),
        "HF_ENDPOINT": endpoint,
        "HF_TOKEN": TOKEN,
    }
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "5", "HF_HUB_ETAG_TIMEOUT": "5"} | more
    done = subprocess.run([*APP, "get", *arguments], capture_output=True, text=True, env=env, timeout=120)
    assert TOKEN not in done.stdout + done.stderr and "Traceback" not in done.stderr
    return done


def test_only_what_is_needed_comes_and_is_found_by_its_id(tmp_path: Path, hub: Hub) -> None:
    """The pipeline's parts, no pickles, no safety checker; a second time nothing is sent."""
    done = get(tmp_path, hub.address, "owner/tiny", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["family"] == "sd15" and found["problems"] == []
    sent = {name for name, _ in hub.sent}
    assert "unet/diffusion_pytorch_model.safetensors" in sent and "tokenizer/merges.txt" in sent
    assert not {n for n in sent if n.startswith(("safety", "README")) or n.endswith((".bin", ".ckpt"))}
    code = "from loratui.families.detect import locate; print(locate('owner/tiny'))"
    env = os.environ | environment(tmp_path) | {"HF_HOME": str(tmp_path / "hf")}
    env.pop("HF_HUB_CACHE", None)
    located = subprocess.run([APP[0], "-c", code], capture_output=True, text=True, env=env, check=True)
    assert located.stdout.strip() == found["path"]
    hub.sent.clear()
    again = get(tmp_path, hub.address, "owner/tiny")
    assert again.returncode == 0 and hub.sent == [] and "of it here already" in again.stderr


def test_it_goes_on_where_it_broke_off(tmp_path: Path, hub: Hub) -> None:
    """Connections break in a large file; the next call asks for the rest of it, and nothing anew."""
    hub.cut = 3_000_000
    first = get(tmp_path, hub.address, "owner/tiny")
    assert hub.sent
    assert first.returncode == 2 and "cannot be fetched" in first.stderr
    whole = {name for name, _ in hub.sent if len(hub.repositories["owner/tiny"][name]) <= hub.cut}
    came = max(first for _, first in hub.sent) + hub.cut
    hub.cut = 0
    hub.sent.clear()
    second = get(tmp_path, hub.address, "owner/tiny")
    assert second.returncode == 0, second.stderr
    again = {name for name, _ in hub.sent}
    assert whole and not again & whole
    (offset,) = (at for name, at in hub.sent if name == "unet/diffusion_pytorch_model.safetensors")
    assert came - (1 << 16) <= offset <= came  # what broke off is kept but for the last chunk
    assert not list((tmp_path / "hf").rglob("*.part"))


def test_what_cannot_be_fetched_is_said_before_anything_comes(tmp_path: Path, hub: Hub) -> None:
    """No room, other pipelines, pickles, single files, no repository: nothing is sent but JSON."""
    tiny = hub.repositories["owner/tiny"]
    hub.sizes["unet/diffusion_pytorch_model.safetensors"] = 10**15
    done = get(tmp_path, hub.address, "owner/tiny")
    assert done.returncode == 2 and "are free in" in done.stderr and "HF_HOME" in done.stderr
    hub.sizes.clear()
    hub.repositories["owner/flux"] = {
        "model_index.json": b'{"_class_name": "LuminaPipeline"}',
        "x.safetensors": b"1",
    }
    assert "LuminaPipeline pipeline" in get(tmp_path, hub.address, "owner/flux").stderr
    pickled = {n.replace(".safetensors", ".bin"): d for n, d in tiny.items()}
    hub.repositories["owner/old"] = pickled
    assert "only pickled weights" in get(tmp_path, hub.address, "owner/old").stderr
    hub.repositories["owner/one"] = {"pony.safetensors": b"12345"}
    assert "`--file pony.safetensors` fetches one" in get(tmp_path, hub.address, "owner/one").stderr
    assert "no such repository" in get(tmp_path, hub.address, "owner/nothing").stderr
    assert {name for name, _ in hub.sent} == {"model_index.json"}


def test_offline_is_said_clearly(tmp_path: Path, hub: Hub) -> None:
    """Nobody listens, or HF_HUB_OFFLINE is set: what to do, and no traceback."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    done = get(tmp_path, f"http://127.0.0.1:{port}", "owner/tiny")
    assert (
        done.returncode == 2 and "cannot be reached" in done.stderr and "give its path as base" in done.stderr
    )
    done = get(tmp_path, hub.address, "owner/tiny", HF_HUB_OFFLINE="1")
    assert done.returncode == 2 and "HF_HUB_OFFLINE is set" in done.stderr and not hub.sent

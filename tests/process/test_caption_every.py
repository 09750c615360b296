"""Every captioner through the command line: a detached run, captions, provenance, documented options."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import caption_kit as kit
import pytest

from loratui.caption.results import Results
from loratui.captioners.options import option_table
from loratui.captioners.spec import CAPTIONERS, captioner_spec
from loratui.cli.shell import run as loratui
from loratui.project.history import History
from loratui.project.provenance import provenance

NAMES = [row.name for row in CAPTIONERS]
OPTIONS = {
    "blip": ["sampling=nucleus", "seed=3", "max_new_tokens=8"],
    "blip2": ["beams=2", "max_new_tokens=8"],
    "clip": ["method=fast", "facets=[\"medium\", \"mood\"]", "top_k=2"],
    "coca": ["max_new_tokens=6"],
    "wd": ["mcut=true", "rating=true"],
    "florence2": ["task=caption", "max_new_tokens=8"],
    "joycaption": ["max_new_tokens=8", "system="],
    "qwen-vl": ["max_new_tokens=8", "max_pixels=4096"],
    "openai-api": ["model=m", "kind=tags"],
    "demo-blip": ["beams=1"],
    "demo-clip": ["facets=[\"shape\", \"background\"]"],
}  # fmt: skip
"""One option of each at least, as `--set` takes it."""
RARE = {"blip2", "coca", "florence2", "joycaption", "qwen-vl"}
"""Captioned with by the long tests alone: five seconds each, most of them imports."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A server on this machine that answers with tags."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"choices": [{"message": {"content": "red, \x1b[1mround\n"}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Quiet."""

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_address[1]}/v1"
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.long) if n in RARE else n for n in NAMES])
def test_it_captions_through_the_command_line(
    name: str, models: Path, tmp_path: Path, endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    project = kit.project(tmp_path / "p", 3, trigger="")
    model = name
    if name in kit.MAKERS:
        folder = models / name
        model = f"{name}={folder if folder.is_dir() else kit.MAKERS[name](folder)}"
    given = [f"endpoint={endpoint}"] if name == "openai-api" else []
    options = [part for one in (*given, *OPTIONS.get(name, ())) for part in ("--set", one)]
    capsys.readouterr()
    code = loratui(
        ["caption", str(project.root), "--model", model, *options, "--name", "all", "--wait", "--json"]
    )
    answer = json.loads(capsys.readouterr().out)
    assert code == 0 and answer["state"] == "finished", answer
    results = Results(Path(answer["run"]))
    said = [r.said[name] for r in results.by_index.values()]
    assert len(said) == 3
    row = captioner_spec(name)
    assert row is not None
    history = History(project.root)
    written = [r for r in results.by_index.values() if r.state == "written"]
    # random weights may say nothing that is left after cleaning; then the caption is not there
    assert len(written) == len(list((project.root / "dataset").glob("*.txt"))) == answer["written"]
    assert written or not any(any(map(str.isalnum, s.text)) or s.tags for s in said)
    for result in written:
        caption = project.root / "dataset" / f"{Path(result.rel).stem}.txt"
        assert caption.read_text().strip() == result.text and result.text.isprintable()
        actor = history.of(caption)[-1].entry.actor
        assert (actor["kind"], actor["name"], actor["run"]) == ("captioner", name, answer["id"])
        origins = provenance(history, caption)
        assert origins and all(dict(origin.actor)["name"] == name for origin in origins.values())
    if row.output == "tags":
        assert written and all(s.tags for s in said)


@pytest.mark.parametrize("name", NAMES)
def test_it_documents_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    row = captioner_spec(name)
    assert row is not None and loratui(["captioners", name]) == 0
    shown = capsys.readouterr().out
    for key, info in option_table(row.options).items():
        assert f"  {key}: " in shown and info.help.split(".")[0] in shown, key
    for one in OPTIONS.get(name, ()):
        key, _, _ = one.partition("=")
        assert key in option_table(row.options)
    assert loratui(["captioners", name, "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [o["key"] for o in listed["options"]] == list(option_table(row.options))

"""What of a Hub repository is needed, whether there is room for it, and fetching it."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loratui.captioners.locate import hub_cache
from loratui.cli.output import Output, size_text
from loratui.errors import BaseModelError
from loratui.families.marks import kin_of_pipeline, of_pipeline
from loratui.runs.lock import FileLock

_PARTS: dict[str, tuple[str, ...]] = {
    "sd": ("text_encoder", "unet", "vae"),
    "sdxl": ("text_encoder", "text_encoder_2", "unet", "vae"),
}
_TOKENIZERS = {"sd": ("tokenizer",), "sdxl": ("tokenizer", "tokenizer_2")}
_PICKLES = (".bin", ".ckpt", ".pt")
_SPARE_BYTES = 1 << 30
_POLL_S = 0.3
_LARGE_BYTES = 8_000_000
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be fetched.

    Attributes:
        hub_id: owner/name.
        revision: as it was asked for, None for the default branch.
        commit: what it is now.
        files: name -> bytes.
        single: the one file that is wanted, empty for a snapshot.
    """

    hub_id: str
    revision: str | None
    commit: str
    files: dict[str, int]
    single: str = ""

    @property
    def bytes(self) -> int:
        """All of it."""
        return sum(self.files.values())

    def folder(self) -> Path:
        """Its folder in the Hub's cache."""
        return hub_cache() / ("models--" + self.hub_id.replace("/", "--"))

    def missing(self) -> int:
        """Bytes that are not in the cache yet; what broke off counts as far as it came."""
        snapshot = self.folder() / "snapshots" / self.commit
        left = sum(size for name, size in self.files.items() if not (snapshot / name).exists())
        return max(0, left - _begun(self.folder()))

    def say(self) -> str:
        """For people: how much, and how much of it is here."""
        left = self.missing()
        here = "" if left == self.bytes else f", {size_text(self.bytes - left)} of it here already"
        count = len(self.files)
        return f"{count} file{'' if count == 1 else 's'}, {size_text(self.bytes)}{here}"


def look(hub_id: str, revision: str | None, patterns: Sequence[str], single: str = "") -> Wanted:
    """Ask the Hub what there is, and choose what is needed of it.

    Args:
        hub_id: owner/name.
        revision: branch, tag or commit; None is the default branch.
        patterns: of the files wanted; empty chooses those that a base of its family needs.
        single: the name of the one file that is wanted.

    Raises:
        BaseModelError: it holds nothing that can be used, or there is no room; the advice says what to do.
        Exception: those of huggingface_hub and its HTTP library.
    """
    from huggingface_hub import HfApi

    info = HfApi().model_info(hub_id, revision=revision, files_metadata=True, timeout=20)
    sizes = {str(s.rfilename): int(s.size or 0) for s in info.siblings or ()}
    commit = str(info.sha)
    if single:
        if single not in sizes or not single.endswith(".safetensors"):
            raise BaseModelError(f"{hub_id} has no file {single}.", _files_advice(sizes))
        chosen = [single]
    elif patterns:
        chosen = [n for n in sizes if any(fnmatch.fnmatch(n, p) for p in patterns)]
        if not chosen:
            raise BaseModelError(f"{hub_id} holds none of {', '.join(patterns)}.", "Check the id.")
    else:
        chosen = _base_files(hub_id, commit, sizes)
    wanted = Wanted(hub_id, revision, commit, {n: sizes[n] for n in sorted(chosen)}, single)
    _check_room(wanted)
    return wanted


def _base_files(hub_id: str, commit: str, sizes: dict[str, int]) -> list[str]:
    """The files of a diffusers pipeline that training needs: no safety checker, no pickles, no copies."""
    if "model_index.json" not in sizes:
        raise BaseModelError(
            f"{hub_id} is no diffusers model: it has no model_index.json.", _files_advice(sizes)
        )
    from huggingface_hub import hf_hub_download

    index = Path(hf_hub_download(hub_id, "model_index.json", revision=commit))
    try:
        pipeline = str(json.loads(index.read_text(encoding="utf-8")).get("_class_name", ""))
    except (ValueError, AttributeError):
        pipeline = ""
    if of_pipeline(pipeline) is not None:
        return _transformer_files(hub_id, sizes)
    if not pipeline.startswith("StableDiffusion") or kin_of_pipeline(pipeline) is not None:
        what = pipeline or "nameless"
        raise BaseModelError(
            f"{hub_id} holds a {what} pipeline, which cannot be trained here; nothing was fetched.",
            "`loratui families` lists what can.",
        )
    kind = "sdxl" if pipeline.startswith("StableDiffusionXL") else "sd"
    chosen = ["model_index.json"]
    chosen += [n for n in sizes if n.startswith("scheduler/") and n.endswith(".json")]
    chosen += [n for n in sizes if n.split("/")[0] in _TOKENIZERS[kind] and n.count("/") == 1]
    for part in _PARTS[kind]:
        chosen += [n for n in sizes if n.startswith(f"{part}/") and n.endswith("config.json")]
        chosen += _weights(hub_id, part, [n for n in sizes if n.startswith(f"{part}/")])
    return chosen


def _transformer_files(hub_id: str, sizes: dict[str, int]) -> list[str]:
    """The same of a diffusion transformer: all text encoders and tokenizers there are."""
    folders = sorted({n.split("/")[0] for n in sizes if n.count("/") == 1})
    chosen = ["model_index.json"]
    for folder in folders:
        names = [n for n in sizes if n.startswith(f"{folder}/")]
        if folder.startswith("tokenizer"):
            chosen += names
        elif folder in {"transformer", "vae"} or folder.startswith("text_encoder"):
            chosen += [n for n in names if n.endswith("config.json")] + _weights(hub_id, folder, names)
        elif folder == "scheduler":
            chosen += [n for n in names if n.endswith(".json")]
    return chosen


def _weights(hub_id: str, part: str, names: list[str]) -> list[str]:
    """The weights of one part: the plain ones, else those in half precision; with their index when cut up."""
    for variant in ("", ".fp16", ".bf16"):
        found = [n for n in names if n.endswith(".safetensors") and _variant(n) == variant]
        if found:
            index = [n for n in names if n.endswith(f".safetensors.index{variant}.json")]
            return found + index
    if any(n.endswith(_PICKLES) for n in names):
        raise BaseModelError(
            f"{hub_id} holds only pickled weights in {part}; nothing was fetched.",
            "Take a repository with .safetensors: opening a pickle can run code.",
        )
    raise BaseModelError(f"{hub_id} has no weights in {part}.", "Check the id and the revision.")


def _variant(name: str) -> str:
    """`.fp16` of `unet/model.fp16.safetensors` and of `unet/model.fp16-00001-of-00002.safetensors`."""
    stem = name.rpartition("/")[2].removesuffix(".safetensors").split("-0")[0]
    return f".{stem.split('.', 1)[1]}" if "." in stem else ""


def _files_advice(sizes: dict[str, int]) -> str:
    single = [n for n in sizes if n.endswith(".safetensors") and "/" not in n]
    if not single:
        return "Take a diffusers model, or a repository with a .safetensors checkpoint."
    listed = ", ".join(f"{n} ({size_text(sizes[n])})" for n in single[:4])
    return f"It has {listed}: `--file {single[0]}` fetches one."


def _check_room(wanted: Wanted) -> None:
    folder = hub_cache()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free, needed = shutil.disk_usage(folder).free, wanted.missing()
    if needed and needed + _SPARE_BYTES > free:
        room = f"{size_text(free)} are free in {folder}"
        raise BaseModelError(
            f"{wanted.hub_id} needs {size_text(needed)} and {room}; nothing was fetched.",
            "Free some space, or set HF_HOME to a folder on a larger disk.",
        )


def fetch(wanted: Wanted, out: Output) -> Path:
    """Fetch what is missing; gives the snapshot's folder, or the single file.

    Raises:
        Exception: those of huggingface_hub and its HTTP library.
    """
    escaped = [n.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]") for n in wanted.files]
    lock = FileLock(_lock_path(wanted), f"the download of {wanted.hub_id}")
    lock.acquire()
    try:
        return _fetched(wanted, escaped, out)
    finally:
        lock.release()


def _lock_path(wanted: Wanted) -> Path:
    (wanted.folder() / "blobs").mkdir(parents=True, exist_ok=True)
    return wanted.folder() / ".loratui-get.lock"


def _fetched(wanted: Wanted, escaped: list[str], out: Output) -> Path:
    from huggingface_hub import snapshot_download

    with _watched(wanted, out):
        for name, size in wanted.files.items():
            if size >= _LARGE_BYTES:
                _fetch_large(wanted, name)
        path = Path(
            snapshot_download(wanted.hub_id, revision=wanted.revision, allow_patterns=escaped, max_workers=4)
        )
    return path / wanted.single if wanted.single else path


def _fetch_large(wanted: Wanted, name: str) -> None:
    """Fetch a file into the cache's blobs, going on where it broke off; `snapshot_download` finds it there.

    huggingface_hub itself begins such a file anew after each end of the process.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(wanted.hub_id, name, revision=wanted.commit)
    about = get_hf_file_metadata(url, timeout=20)
    blob = wanted.folder() / "blobs" / str(about.etag)
    if not re.fullmatch("[0-9a-f]{64}", str(about.etag)) or about.size is None or blob.exists():
        return  # only files with a sum to check against
    part = blob.with_name(f"{about.etag}.part")
    for attempt in range(_TRIES):
        before = part.stat().st_size if part.exists() else 0
        try:
            _append(url, part, before, about.size)
            break
        except Exception:  # those of whichever HTTP library it is
            if attempt == _TRIES - 1 or not part.exists() or part.stat().st_size <= before:
                raise
    with open(part, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != about.etag:
        part.unlink()
        raise BaseModelError(f"{name} of {wanted.hub_id} came damaged and was removed.", "Fetch it again.")
    part.rename(blob)


def _append(url: str, part: Path, first: int, size: int) -> None:
    """Fetch what is missing of a file from byte `first` on."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    if first >= size:
        return
    headers = build_hf_headers() | ({"Range": f"bytes={first}-"} if first else {})
    with get_session().stream("GET", url, headers=headers, follow_redirects=True, timeout=30) as response:
        hf_raise_for_status(response)
        partial = response.status_code == 206
        with open(part, "ab" if partial else "wb") as file:
            for chunk in response.iter_bytes(1 << 16):
                file.write(chunk)
    if part.stat().st_size != size:
        raise OSError("the connection broke")


@contextmanager
def _watched(wanted: Wanted, out: Output) -> Iterator[None]:
    """Tell how far it is, by what lies in the cache."""
    done, before = threading.Event(), _stored(wanted.folder())
    already = wanted.bytes - wanted.missing()

    def watch() -> None:
        while not done.wait(_POLL_S):
            have = min(wanted.bytes, already + max(0, _stored(wanted.folder()) - before))
            share = 100 * have / max(1, wanted.bytes)
            out.progress(f"fetching  {size_text(have)} of {size_text(wanted.bytes)}  {share:.0f} %")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _stored(folder: Path) -> int:
    total = 0
    for path in (folder / "blobs").glob("*"):
        try:
            total += path.stat().st_size
        except OSError:  # renamed this moment
            continue
    return total


def _begun(folder: Path) -> int:
    """Bytes of files that broke off."""
    return sum(path.stat().st_size for path in (folder / "blobs").glob("*.part") if path.exists())

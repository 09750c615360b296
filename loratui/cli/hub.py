"""`get`: fetch a base model ahead of time."""

from __future__ import annotations

import argparse
import os
import re
from typing import Any

from loratui.cli.output import Output

_PATTERNS = (
    "model_index.json",
    "scheduler/*.json",
    "tokenizer/*",
    "text_encoder/*.json",
    "unet/*.json",
    "vae/*.json",
    "text_encoder/*.safetensors",
    "unet/*.safetensors",
    "vae/*.safetensors",
)
"""What training needs of a diffusers repository: no safety checker, no pickles, no single-file copies."""
_LEFT_OUT = ("*.non_ema.safetensors", "*.fp16.safetensors", "*.bf16.safetensors")


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "get",
        help="fetch a base model from the Hub",
        description="Fetch a base model so that training works offline.",
    )
    parser.add_argument("hub_id", metavar="HUB-ID", help="as in owner/name")
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run_get)


def run_get(args: argparse.Namespace, out: Output) -> int:
    """Fetch a base model into the Hub cache."""
    from loratui.errors import BaseModelError, MissingPackageError

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", args.hub_id):
        raise BaseModelError(f"{args.hub_id!r} is not a Hub id.", "A Hub id is owner/name.")
    if out.json:
        os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingPackageError(
            "huggingface_hub is not installed here.", "Install it with `pip install huggingface_hub`."
        ) from error
    from loratui.captioners.spec import known_models

    captioner = known_models().get(args.hub_id)
    try:
        path = snapshot_download(
            args.hub_id,
            revision=args.revision,
            allow_patterns=list(captioner.files if captioner else _PATTERNS),
            ignore_patterns=list(_LEFT_OUT),
        )
    except Exception as error:  # its errors come from three HTTP libraries and its own tree
        raise BaseModelError(f"{args.hub_id} cannot be fetched: {_why(error)}.", _advice(error)) from error
    if captioner is not None:
        out.document({"id": args.hub_id, "path": str(path), "captioner": captioner.name})
        out.line(f"{args.hub_id} is in {path}: `loratui caption DIR --model {captioner.name}={args.hub_id}`.")
        return 0
    from pathlib import Path

    from loratui.families.detect import detect

    found = detect(Path(path))
    out.document(
        {
            "id": args.hub_id,
            "path": str(path),
            "family": found.family,
            "bytes": found.bytes,
            "problems": [p.as_dict() for p in found.problems],
        }
    )
    out.line(f"{args.hub_id} is in {path}.")
    for problem in found.problems:
        out.note(f"  {problem.severity}: {problem}")
    return 2 if any(p.severity == "error" for p in found.problems) else 0


def _why(error: Exception) -> str:
    name = type(error).__name__
    known = {
        "RepositoryNotFoundError": "there is no such repository, or it is private",
        "GatedRepoError": "its owner wants you to accept terms first",
        "RevisionNotFoundError": "there is no such revision",
        "LocalEntryNotFoundError": "the Hub cannot be reached and nothing is in the cache",
        "OfflineModeIsEnabled": "HF_HUB_OFFLINE is set",
        "ConnectError": "the Hub cannot be reached",
        "ConnectionError": "the Hub cannot be reached",
        "ConnectTimeout": "the Hub cannot be reached",
        "ReadTimeout": "the Hub does not answer",
        "ProxyError": "the proxy refuses",
    }
    first = next(iter(str(error).splitlines()), "")
    return known.get(name) or (f"{first[:160].rstrip('.')}" if first else name)


def _advice(error: Exception) -> str:
    if type(error).__name__ in {"RepositoryNotFoundError", "GatedRepoError"}:
        return "Check the id; for private and gated models log in with `hf auth login` first."
    return "Check the network, or copy the model's folder here and give its path as base."

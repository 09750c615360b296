"""`get`: fetch a base model or a captioner's weights ahead of time."""

from __future__ import annotations

import argparse
import os
import re
from typing import Any

from loratui.cli.output import Output


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "get",
        help="fetch a base model or a captioner from the Hub",
        description="Fetch what is needed of a base model or a captioner, so that all works offline."
        " Goes on where it broke off.",
    )
    parser.add_argument("hub_id", metavar="HUB-ID", help="as in owner/name")
    parser.add_argument("--revision", metavar="REV", help="branch, tag or commit")
    parser.add_argument("--file", metavar="NAME", help="one .safetensors file of the repository instead")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run_get)


def run_get(args: argparse.Namespace, out: Output) -> int:
    """Fetch a base model or a captioner into the Hub cache."""
    from loratui.captioners.spec import known_models
    from loratui.cli.fetching import Wanted, fetch, look
    from loratui.errors import BaseModelError, LoratuiError, MissingPackageError

    if not re.fullmatch(r"[\w.-]+/[\w.-]+", args.hub_id):
        raise BaseModelError(f"{args.hub_id!r} is not a Hub id.", "A Hub id is owner/name.")
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"  # ours knows the whole
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            "huggingface_hub is not installed here.", "Install it with `pip install huggingface_hub`."
        ) from error
    captioner = known_models().get(args.hub_id)
    patterns = tuple(captioner.files) if captioner else ()
    try:
        wanted: Wanted = look(args.hub_id, args.revision, patterns, args.file or "")
        out.note(f"{args.hub_id}: {wanted.say()}")
        path = fetch(wanted, out)
    except LoratuiError:
        raise
    except Exception as error:  # its errors come from three HTTP libraries and its own tree
        why = _hidden(_why(error))
        raise BaseModelError(f"{args.hub_id} cannot be fetched: {why}.", _advice(error)) from None
    finally:
        out.end_progress()
    if captioner is not None:
        out.document({"id": args.hub_id, "path": str(path), "captioner": captioner.name})
        out.line(f"{args.hub_id} is in {path}: `loratui caption DIR --model {captioner.name}={args.hub_id}`.")
        return 0
    return _tell_base(args, path, out)


def _tell_base(args: argparse.Namespace, path: Any, out: Output) -> int:
    from loratui.families.detect import detect

    found = detect(path)
    out.document(
        {
            "id": args.hub_id,
            "path": str(path),
            "family": found.family,
            "bytes": found.bytes,
            "problems": [p.as_dict() for p in found.problems],
        }
    )
    base = str(path) if args.file or args.revision else args.hub_id
    out.line(f"{args.hub_id} is in {path} ({found.what or 'not known here'}): `--base {base}`.")
    for problem in found.problems:
        out.note(f"  {problem.severity}: {problem}")
    return 2 if any(p.severity == "error" for p in found.problems) else 0


def _hidden(text: str) -> str:
    """A text without the user's token, should a library ever put it into a message."""
    from huggingface_hub import get_token

    for token in (get_token(), os.environ.get("HF_TOKEN")):
        if token:
            text = text.replace(token, "(token)")
    return re.sub(r"hf_[A-Za-z0-9]{8,}", "(token)", text)


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
        "OfflineModeIsEnabledError": "HF_HUB_OFFLINE is set",
        "ReadTimeout": "the Hub does not answer",
        "ProxyError": "the proxy refuses",
    }
    first = next(iter(str(error).splitlines()), "")
    return known.get(name) or (f"{first[:160].rstrip('.')}" if first else name)


def _advice(error: Exception) -> str:
    if type(error).__name__ in {"RepositoryNotFoundError", "GatedRepoError"}:
        return "Check the id; for private and gated models log in with `hf auth login` first."
    if type(error).__name__.startswith("OfflineModeIsEnabled"):
        return "Unset HF_HUB_OFFLINE, or copy the model's folder here and give its path as base."
    return "Check the network, or copy the model's folder here and give its path as base."

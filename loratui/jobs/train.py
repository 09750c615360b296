"""`python -m loratui.jobs.train RUN`: train, export, verify, score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loratui.jobs._main import run_job


def main(context: Any) -> None:
    """Run a training from its run directory to a verified file.

    Args:
        context: of the job shell: run, journal, controls, ack, stop_requested.
    """
    from loratui.errors import JobError
    from loratui.train.assemble import Stopped, assemble
    from loratui.train.fit import is_compiling
    from loratui.train.loop import train
    from loratui.train.shortage import explain, is_out_of_memory

    training = None
    try:
        training = assemble(context)
        complete = train(training)
    except Stopped:
        context.journal.write(
            "state", state="stopped", reason="stopped before the first step", advice="Resume to start it."
        )
        return
    except Exception as error:
        if is_compiling(error):
            advice = "Set memory.compile = false, and start again."
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise JobError(f"torch.compile failed: {said}", advice) from error
        if not is_out_of_memory(error):
            raise
        raise explain(error, context, training) from error
    if not complete:
        context.journal.write(
            "state", state="stopped", reason=f"stopped at step {training.step} of {training.info.steps}",
            advice="Resume to go on from there.",
        )  # fmt: skip
    elif training.ranks.first:
        with training.published.weights():
            finish(training)
    training.ranks.close()


def finish(training: Any) -> None:
    """Export the adapter, prove that the file loads where it will be used, score it: only then finished.

    Raises:
        JobError: the file has keys that a consumer would not load.
    """
    from loratui.errors import JobError
    from loratui.train.export import export_lora
    from loratui.weights.networks import network_spec
    from loratui.weights.verify import verify_file

    context, config = training.context, training.config
    journal, root = context.journal, context.run.path
    if training.adapter.tokens is not None:
        export_tokens(training)
    if config.network.tokens_only:
        end(training)
        return
    path = context.run.export_dir / f"{config.saving.name or training.info.name}.safetensors"
    metadata = training.metadata(training.step)
    if training.adapter.dotted:
        metadata.pop("ss_network_alpha", None)  # the file's own scale is 1
    size = export_lora(path, training.adapter.network_tensors(), config.saving.dtype, metadata)
    relative = path.relative_to(root).as_posix()
    spec = network_spec(config.network.kind)
    form = "peft" if training.adapter.dotted or (spec and spec.format == "peft") else "kohya"
    journal.write("exported", path=relative, format=form, bytes=size)
    journal.write("progress", what="verifying", done=0, total=1)
    base = Path(training.info.base_path)  # may have been moved away since it was read
    found = verify_file(path, base if base.exists() else None)
    journal.write("progress", what="verifying", done=1, total=1)
    journal.write(
        "verified", path=relative, matched={name: list(pair) for name, pair in found.matched.items()},
        problems=[p.as_dict() for p in found.problems],
    )  # fmt: skip
    if not found.ok:
        first = next((p.message for p in found.problems if p.severity == "error"), "some keys match nothing")
        raise JobError(
            f"The exported file would not load everywhere: {first}", "Report this; the checkpoint is kept."
        )
    end(training)


def end(training: Any) -> None:
    """Score what was trained where the run asks for it; then it is finished."""
    if training.info.score == "demo":
        from loratui.jobs.demo_score import score

        score(training)
    training.journal.write("state", state="finished", reason="", advice="")


def export_tokens(training: Any) -> None:
    """Write the new tokens as an embedding file, read it back and check it against the text encoders."""
    from safetensors.torch import load_file

    from loratui.errors import JobError
    from loratui.train.export import export_embedding
    from loratui.weights.verify import verify_file

    context, tokens = training.context, training.adapter.tokens
    path = context.run.export_dir / f"{tokens.name}-embedding.safetensors"
    config = training.config
    dtype, rate = config.saving.dtype, config.network.token_lr or config.optimizer.lr
    metadata = training.metadata(training.step) | {"ss_learning_rate": str(rate)}
    size = export_embedding(path, tokens.embedding_file(), dtype, metadata)
    relative = path.relative_to(context.run.path).as_posix()
    training.journal.write("exported", path=relative, format="embedding", bytes=size)
    wanted = {name: tuple(t.shape) for name, t in tokens.embedding_file().items()}
    found = {name: tuple(t.shape) for name, t in load_file(path).items() if bool(t.isfinite().all())}
    if found != wanted:
        raise JobError(
            "The exported embedding is not what was trained.", "Report this; the checkpoint is kept."
        )
    verified = verify_file(path)
    training.journal.write(
        "verified", path=relative, problems=[p.as_dict() for p in verified.problems],
        matched={name: list(pair) for name, pair in verified.matched.items()},
    )  # fmt: skip


if __name__ == "__main__":
    run_job(main)

"""`fold` is pure and incremental, supersedes attempts, and tells speed and time left truly."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_kit import thrown_journal

from loratui.runs.events import decode_line, encode_line
from loratui.runs.fold import KINDS, SMOOTHING, apply, fold, from_status, memo_to_json, to_status
from loratui.runs.state import RunState
from loratui.runs.steps import decode

Event = dict[str, Any]


def through_json(state: RunState) -> RunState:
    status = {**to_status(state), "memo": memo_to_json(state)}
    return from_status(msgspec.json.decode(msgspec.json.encode(status)))


class Script:
    """Writes events with a clock, as a job does."""

    def __init__(self, steps: int = 100) -> None:
        self.events: list[Event] = []
        self.now = 1000.0
        self.attempt = 0
        self.steps = steps

    def add(self, kind: str, after: float = 0.0, **fields: Any) -> Script:
        self.now += after
        envelope = {"n": len(self.events) + 1, "t": self.now, "a": self.attempt, "kind": kind}
        self.events.append({**envelope, **fields})
        return self

    def open(self, from_step: int = 0) -> Script:
        self.attempt += 1
        return self.add("opened", run_id="r", attempt=self.attempt, from_step=from_step, steps=self.steps)

    def train(
        self, first: int, last: int, step_s: float = 1.0, save_every: int = 0, save_s: float = 0.0
    ) -> Script:
        for step in range(first, last + 1):
            self.add("step", after=step_s, step=step, loss=1.0 / step, step_s=step_s, images=4)
            if save_every and step % save_every == 0:
                self.add("checkpoint", after=save_s, step=step, path=f"checkpoints/step-{step:06d}")
        return self


small = st.integers(0, 12)
odd = st.one_of(
    st.none(), st.booleans(), small, st.floats(), st.text(max_size=3), st.lists(small, max_size=2)
)
FIELDS = """
    step loss lr step_s images times from_step attempt steps state reason id ok path prompts matched problems
    scores message index device host pid rss_gib what done total
"""
fields = st.dictionaries(st.sampled_from(FIELDS.split()), odd, max_size=6)
sane: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        lambda s, x, d: {
            "kind": "step",
            "step": s,
            "loss": x,
            "step_s": d,
            "images": 1,
            "times": {"data": d},
        },
        small,
        st.floats(allow_nan=True),
        st.floats(0, 5),
    ),
    st.builds(lambda s: {"kind": "checkpoint", "step": s, "path": f"c{s}"}, small),
    st.builds(lambda s: {"kind": "sample", "step": s, "index": 0, "path": f"s{s}"}, small),
    st.builds(
        lambda s: {"kind": "state", "state": s}, st.sampled_from(["running", "paused", "stopped", "failed"])
    ),
    st.builds(
        lambda a, s: {"kind": "opened", "attempt": a, "from_step": s, "steps": 20}, st.integers(1, 4), small
    ),
)
wild = st.builds(lambda k, f: {**f, "kind": k}, st.sampled_from([*sorted(KINDS), "brand-new", ""]), fields)
streams = st.lists(st.tuples(st.one_of(sane, wild), st.integers(0, 3), st.floats(0, 1e9)), max_size=25).map(
    lambda rows: [{"n": i, "t": t, "a": a, **e} for i, (e, a, t) in enumerate(rows)]
)


@settings(max_examples=200, deadline=None)
@given(streams, st.integers(0, 25))
def test_incremental_pure_and_never_an_error(events: list[Event], cut: int) -> None:
    before = copy.deepcopy(events)
    whole = fold(events)
    assert repr(events) == repr(before)  # repr: nan equals nan
    halves = fold(events[cut:], fold(events[:cut]))
    assert repr(halves) == repr(whole)
    cached = fold(events[cut:], through_json(fold(events[:cut])))
    assert repr(cached) == repr(whole)
    json.dumps(to_status(whole), allow_nan=False)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 150), st.sampled_from([0, 0.02, 0.1, 0.6]), st.integers(1, 160))
def test_stretches_folded_at_once_are_the_events_applied(
    seed: int, length: int, oddness: float, piece: int
) -> None:
    events = thrown_journal(seed, length, oddness)
    lines = [encode_line(event)[:-1] for event in events]
    one_by_one = RunState()
    for line in lines:
        if (event := decode_line(line)) is not None:
            apply(one_by_one, event)
    records, bad = decode(lines)
    assert bad == sum(decode_line(line) is None for line in lines)
    in_pieces = RunState()
    for start in range(0, len(records), piece):
        in_pieces = fold(records[start : start + piece], in_pieces)
    for folded in (fold(records), in_pieces):
        assert to_status(folded) == to_status(one_by_one)
        assert memo_to_json(folded) == memo_to_json(one_by_one)
        assert repr(folded) == repr(one_by_one)


def test_most_of_a_training_is_folded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script().open()
    for step in range(1, 501):
        times = {"data": 0.1, "compute": 0.5, "optimizer": 0.1, "io": 0.0}
        script.add(
            "step", after=1, step=step, epoch=1, loss=0.5, lr={"unet": 1e-4}, grad_norm=1.0, step_s=0.9,
            images=4, times=times,
        )  # fmt: skip
        script.add("memory", device="cpu", rss_gib=1.0)
    applied: list[Event] = []
    real = apply
    monkeypatch.setattr(
        "loratui.runs.fold.apply", lambda state, event: (applied.append(event), real(state, event))
    )
    fold(decode([encode_line(event)[:-1] for event in script.events])[0])
    assert sum(event["kind"] == "step" for event in applied) == 1


def test_smoothing_is_the_bias_corrected_mean_and_best_its_smallest() -> None:
    losses = [0.5, math.nan, 0.3, 0.9, 0.1]
    script = Script().open()
    smoothed = []
    for step, loss in enumerate(losses, 1):
        script.add("step", step=step, loss=loss)
        finite = [x for x in losses[:step] if math.isfinite(x)]
        weights = [SMOOTHING ** (len(finite) - 1 - i) for i in range(len(finite))]
        smoothed.append(sum(w * x for w, x in zip(weights, finite, strict=True)) / sum(weights))
        assert fold(script.events).loss_smooth == pytest.approx(smoothed[-1])
    assert fold(script.events).best_loss == pytest.approx(min(smoothed))


def test_time_left_counts_saves() -> None:
    state = fold(Script(steps=1000).open().train(1, 500, step_s=1.0, save_every=10, save_s=5.0).events)
    assert state.step_s == pytest.approx(1.0)
    assert state.images_s == pytest.approx(4.0)
    assert state.eta_s == pytest.approx(500 * 1.5, rel=0.03)


def test_time_left_forgets_pauses_and_the_time_before_the_first_step() -> None:
    script = Script(steps=100).open().add("state", state="running").add("sample", after=300, step=0, path="s")
    script.train(1, 20).add("state", after=1, state="paused").add("state", after=9000, state="running").train(
        21, 40
    )
    state = fold(script.events)
    assert state.eta_s == pytest.approx(60.0, rel=0.05)
    assert state.state == "running"


def test_speed_from_the_clock_when_steps_do_not_tell() -> None:
    script = Script(steps=100).open()
    for step in range(1, 31):
        script.add("step", after=2.0, step=step, loss=0.1)
    state = fold(script.events)
    assert state.step_s == pytest.approx(2.0)
    assert state.eta_s == pytest.approx(140.0)


def test_shares_of_time() -> None:
    state = fold(Script().open().add("step", step=1, loss=1.0, times={"data": 1.0, "compute": 3.0}).events)
    assert state.times == {"data": 0.25, "compute": 0.75}


def test_a_resume_supersedes_what_came_after_its_step() -> None:
    script = Script().open().train(1, 30, save_every=10)
    for step in (0, 10, 20, 30):
        script.add("sample", step=step, index=0, path=f"samples/step-{step:06d}/0.png")
    at_twenty = fold(script.events[:23])  # opened, 20 steps, 2 checkpoints
    assert at_twenty.checkpoints[-1].step == 20
    script.add("state", state="failed", reason="disk").open(from_step=20)
    state = fold(script.events)
    assert (state.attempt, state.state, state.reason, state.step) == (2, "starting", "", 20)
    assert [s.step for s in state.samples] == [0, 10, 20]
    assert [c.step for c in state.checkpoints] == [10, 20]
    assert (state.loss_smooth, state.best_loss) == (at_twenty.loss_smooth, at_twenty.best_loss)
    again = fold(script.train(21, 30).events)
    straight = fold(Script().open().train(1, 30).events)
    assert (again.step, again.loss_smooth, again.best_loss) == (30, straight.loss_smooth, straight.best_loss)


def test_a_fresh_start_forgets_the_losses() -> None:
    state = fold(Script().open().train(1, 7).open(from_step=0).events)
    assert (state.step, state.loss, state.loss_smooth, state.best_loss) == (0, None, None, None)


def test_a_job_may_rewind_within_its_attempt() -> None:
    script = Script().open().train(1, 30, save_every=10).open(from_step=30)
    script.add("process", host="h", pid=7, process_start=1.0, boot_id="b").add("opened", from_step=20)
    state = fold(script.events)
    assert (state.attempt, state.step, state.pid) == (2, 20, 7)
    assert [c.step for c in state.checkpoints] == [10, 20]


def test_events_of_a_superseded_writer_are_ignored() -> None:
    script = Script().open().open()
    script.attempt = 1
    state = fold(script.add("step", step=99, loss=1.0).events)
    assert (state.step, state.events) == (0, 3)


def test_unknown_kinds_are_counted() -> None:
    script = Script().open().add("hologram").add("hologram").add("state", state="levitating")
    state = fold(script.events)
    assert state.unknown_kinds == {"hologram": 2, "state levitating": 1}
    assert state.state == "starting"


def test_the_small_facts() -> None:
    script = Script().open()
    script.add("ack", id="1", request="stop", ok=True, reason="").add(
        "ack", id="1", ok=False, reason="expired"
    )
    script.add("ack", id="2", request="save", ok=False, reason="expired")
    script.add("sample_failed", step=5, index=1, prompt="x", error="no room").add(
        "prompts", prompts=["a", "b"]
    )
    script.add("verified", path="f", matched={"ComfyUI": [3, 4]}, problems=["one key is left over"])
    script.add("exported", path="export/x.safetensors").add("scored", scores={"mascot": 0.5})
    script.add("memory", device="cpu", rss_gib=1.5).add("validation", step=5, loss=0.2).add("pruned", step=3)
    script.add("error", code="x", message="it broke", advice="mend it").add("state", state="failed")
    state = fold(script.events)
    assert state.acks == {"1": "ok", "2": "expired"}
    assert state.warnings == ["Sample 2 at step 5 failed: no room", "one key is left over"]
    assert state.prompts == ["a", "b"]
    assert state.verified == {"ComfyUI": [3, 4]}
    assert (state.exported, state.scores, state.val_loss) == ("export/x.safetensors", {"mascot": 0.5}, 0.2)
    assert state.memory == {"device": "cpu", "rss_gib": 1.5}
    assert (state.state, state.reason, state.advice) == ("failed", "it broke", "mend it")


def test_a_million_steps_fold_in_bounded_memory() -> None:
    state = fold(Script(steps=10**6).open().train(1, 3000).events)
    size = len(msgspec.json.encode({**to_status(state), "memo": memo_to_json(state)}))
    for event in Script(steps=10**6).train(3001, 6000).events:
        apply(state, {**event, "a": 1})
    assert len(msgspec.json.encode({**to_status(state), "memo": memo_to_json(state)})) < size + 100

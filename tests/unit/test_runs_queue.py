"""The queue file: order, holding, moving, who counts, and one owner a device however many race for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loratui.errors import RunError
from loratui.runs import devices, queue
from loratui.runs.devices import Want, visible_gpus, wanted
from loratui.runs.directory import RunDir
from loratui.runs.liveness import Identity, observed_state, process_identity
from loratui.runs.lock import DeviceLock
from loratui.runs.state import RunState

GPU = Want(("cuda:0",))
ANY = Want(("cuda:0", "cuda:1"))


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORATUI_STATE", str(tmp_path / "state"))


def a_run(tmp_path: Path, name: str) -> RunDir:
    run = RunDir(tmp_path / "runs" / name)
    run.path.mkdir(parents=True, exist_ok=True)
    return run


def dead() -> Identity:
    process = subprocess.Popen([sys.executable, "-c", ""])
    named = process_identity(process.pid)
    process.wait()
    return named


def order() -> list[str]:
    return [Path(entry.run).name for entry in queue.entries()]


def test_runs_wait_in_order_and_are_moved_held_and_taken_out(tmp_path: Path) -> None:
    a, b, c = (a_run(tmp_path, name) for name in "abc")
    for run in (a, b, c):
        queue.enter(run, GPU)
    assert order() == ["a", "b", "c"]
    queue.enter(a, GPU)  # keeps its place
    assert queue.move(c, 0) == 0 and order() == ["c", "a", "b"]
    assert queue.move(c, 99) == 2 and order() == ["a", "b", "c"]
    queue.hold(a)
    assert queue.take_turn(a)[0] == "held"
    assert queue.take_turn(c)[0] == "waiting"  # b stands before it
    said, locks = queue.take_turn(b)  # a is passed over
    assert said == "taken" and [lock.device for lock in locks] == ["cuda:0"] and order() == ["a", "c"]
    assert queue.take_turn(c)[0] == "waiting"  # the device is taken
    assert [(h.device, h.run, h.pid) for h in queue.holders()] == [("cuda:0", str(b.path), os.getpid())]
    locks[0].release()
    queue.hold(a, False)
    assert queue.take_turn(c)[0] == "waiting" and queue.take_turn(a)[0] == "taken"
    assert queue.leave(c) is not None and queue.leave(c) is None
    assert queue.take_turn(c)[0] == "removed"
    with pytest.raises(RunError, match="does not wait"):
        queue.hold(c)


def test_two_devices_take_two_runs_and_a_choice_waits_for_nobody(tmp_path: Path) -> None:
    first, only_one, third = (a_run(tmp_path, name) for name in ("first", "only-one", "third"))
    queue.enter(first, ANY)
    queue.enter(only_one, Want(("cuda:1",)))
    queue.enter(third, ANY)
    assert queue.take_turn(only_one)[0] == "waiting"  # first may still choose cuda:1
    taken = [*queue.take_turn(first)[1], *queue.take_turn(only_one)[1]]
    assert [lock.device for lock in taken] == ["cuda:0", "cuda:1"]
    assert queue.take_turn(third)[0] == "waiting"
    taken[1].release()
    said, locks = queue.take_turn(third)
    assert said == "taken" and locks[0].device == "cuda:1"


def test_a_run_over_two_devices_is_not_starved_by_small_ones(tmp_path: Path) -> None:
    both, small = a_run(tmp_path, "both"), a_run(tmp_path, "small")
    with DeviceLock("cuda:0"):
        queue.enter(both, replace(ANY, count=2))
        queue.enter(small, ANY)
        assert queue.take_turn(both) == ("waiting", [])
        assert queue.take_turn(small)[0] == "waiting"
        assert queue.holders()[0].device == "cuda:0" and len(queue.holders()) == 1  # nothing half taken
    said, locks = queue.take_turn(both)
    assert said == "taken" and len(locks) == 2


def test_the_killed_are_swept_and_a_restart_holds(tmp_path: Path) -> None:
    killed, old, mine = (a_run(tmp_path, name) for name in ("killed", "old", "mine"))
    queue.enter(killed, GPU, dead())
    before = replace(process_identity(), boot_id="an-earlier-boot/1")
    queue.enter(old, GPU, before)
    assert order() == ["old"] and queue.entries()[0].standing == "restarted"
    queue.enter(mine, GPU)
    assert "runs/killed" not in queue.queue_path().read_text()
    assert queue.take_turn(mine)[0] == "taken"
    assert order() == ["old"]

    state = RunState(run_id="old", state="queued", **before.as_dict())
    assert observed_state(state).state == "held" and "restarted" in observed_state(state).reason
    state = RunState(run_id="killed", state="queued", **dead().as_dict())
    assert observed_state(state).state == "crashed"


def test_the_launcher_stands_in_until_the_job_is_there(tmp_path: Path) -> None:
    run, me, other = a_run(tmp_path, "a"), process_identity(), process_identity(os.getppid())
    queue.enter(run, GPU, me)
    queue.hand_over(run, me, other)
    assert queue.entries()[0].who == other
    queue.hand_over(run, me, dead())  # the job named itself meanwhile
    assert queue.entries()[0].who == other
    queue.leave(run)
    queue.hand_over(run, me, other)  # its turn came at once
    assert queue.entries() == []


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{", b'{"queue": 3}', b'{"queue": [1, {"run": 2}]}', b"\xff\x00"]
)
def test_a_damaged_file_is_an_empty_queue(tmp_path: Path, text: bytes) -> None:
    run = a_run(tmp_path, "a")
    queue.enter(run, GPU)
    queue.queue_path().write_bytes(text)
    assert queue.entries() == [] and queue.take_turn(run)[0] == "removed"
    queue.enter(run, GPU)
    assert order() == ["a"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["enter", "leave", "move", "hold", "free"]), st.integers(0, 4)), max_size=25
    )
)
def test_any_order_of_changes_keeps_a_list_without_doubles(
    tmp_path: Path, deeds: list[tuple[str, int]]
) -> None:
    queue.queue_path().unlink(missing_ok=True)
    model: list[str] = []
    for deed, number in deeds:
        run = a_run(tmp_path, f"r{number}")
        there = run.path.name in model
        if deed == "enter":
            queue.enter(run, GPU)
            model += [] if there else [run.path.name]
        elif deed == "leave":
            assert (queue.leave(run) is not None) == there
            model = [name for name in model if name != run.path.name]
        elif there and deed == "move":
            model.remove(run.path.name)
            model.insert(min(number, len(model)), run.path.name)
            queue.move(run, number)
        elif there:
            assert queue.hold(run, deed == "hold").held == (deed == "hold")
        assert order() == model


def test_what_a_run_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    auto = {"memory": {"device": "auto"}}
    monkeypatch.setattr(devices, "_gpu_ids", list)
    assert wanted(auto, {}) is None and wanted({}, {}) is None
    assert wanted(auto | {"run": {"queue": True}}, {}) == Want(("cpu",))
    monkeypatch.setattr(devices, "_gpu_ids", lambda: ["GPU-a", "GPU-b", "GPU-c"])
    want = wanted(auto, {})
    assert want is not None and want.devices == ("cuda:0", "cuda:1", "cuda:2") and want.count == 1
    assert want.environment(["cuda:2"]) == {"CUDA_VISIBLE_DEVICES": "2"}
    assert wanted({"memory": {"device": "cpu"}}, {}) is None
    assert wanted({"memory": {"device": "cuda:1"}}, {}) == Want(("cuda:1",))
    seen = {"CUDA_VISIBLE_DEVICES": "2,GPU-a"}
    assert wanted({"memory": {"device": "cuda:1"}}, seen) == Want(("cuda:0",))
    want = wanted(auto, seen)
    assert want is not None and want.environment(["cuda:0"]) == {"CUDA_VISIBLE_DEVICES": "GPU-a"}
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "0,7,1"}) == [("cuda:0", "0")]
    assert wanted(auto, {"CUDA_VISIBLE_DEVICES": "1"}) == Want(("cuda:1",), 1, (("cuda:1", "1"),))
    assert want.environment(["cpu"]) == {}
    several = wanted({"memory": {"device": "cuda", "processes": 2}}, {})
    assert several is not None and several.count == 2
    assert several.environment(["cuda:0", "cuda:2"]) == {"CUDA_VISIBLE_DEVICES": "0,2"}
    captions = {"captioner": {"blip": {"device": "auto"}, "api": {}}}
    assert wanted(captions, {"CUDA_VISIBLE_DEVICES": "1"}) == Want(("cuda:1",), 1, (("cuda:1", "1"),))
    assert wanted({"captioner": {"api": {"url": "x"}}}, {}) is None


def race(tmp_path: Path, many: int) -> None:
    """`many` processes queue for two devices at once; each writes when it has one and when it lets go."""
    tmp_path.mkdir()
    log, (gate, open_gate) = tmp_path / "log", os.pipe()
    log.touch()
    children = []
    for number in range(many):
        pid = os.fork()
        if pid:
            children.append(pid)
            continue
        code = 1
        try:
            os.close(open_gate)
            run = a_run(tmp_path, f"racer-{number}")
            os.read(gate, 1)
            queue.enter(run, ANY)
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                said, locks = queue.take_turn(run)
                if said == "taken":
                    with log.open("a") as file:
                        file.write(json.dumps([locks[0].device, number, "in"]) + "\n")
                        file.flush()
                        time.sleep(0.002)
                        file.write(json.dumps([locks[0].device, number, "out"]) + "\n")
                    locks[0].release()
                    code = 0
                    break
                time.sleep(0.05)
        finally:
            os._exit(code)
    os.close(gate)
    os.close(open_gate)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * many
    inside: dict[str, int] = {}
    served: list[int] = []
    for device, number, what in map(json.loads, log.read_text().splitlines()):
        if what == "in":
            assert device not in inside, "two owners"
            inside[device] = number
            served.append(number)
        else:
            assert inside.pop(device) == number
    assert sorted(served) == list(range(many)) and not queue.entries() and not queue.holders()


def test_a_device_has_one_owner_however_many_race(tmp_path: Path) -> None:
    for number in range(2):
        race(tmp_path / str(number), 8)


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_fifty_race_twenty_times_for_two_devices(tmp_path: Path) -> None:
    for number in range(20):
        race(tmp_path / str(number), 50)

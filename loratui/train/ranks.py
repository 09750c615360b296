"""Several processes that train one network: everything that goes between them is in this file.

Each process (a rank) holds the whole base and the whole adapter, and computes its share of each batch.
Gradients are summed over the ranks before clipping, so all ranks apply the same step and stay equal; rank 0
alone speaks: journal, samples, checkpoints, export. What a sample draws is a function of seed, step and
place in the whole batch, so the count of processes changes the order of sums and nothing else.

One process is `Ranks` itself, whose methods do nothing: it has no group and pays nothing.

Messages (requests, errors, "go on") travel over gloo as JSON with a timeout of a year, as rank 0 may draw
samples or be paused for long; gradients travel over nccl between GPUs. A lost process is noticed by `Watch`,
within seconds and whatever the others wait for.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

import loratui.errors
from loratui.errors import ConfigError, JobError, LoratuiError
from loratui.runs.control import Request
from loratui.runs.liveness import Identity, is_alive, process_identity
from loratui.runs.state import ENDED

T = TypeVar("T")
LONG = timedelta(days=365)
WATCH_S = 0.5
SETTLE_S = 6.0
"""How long a process whose exchange failed waits for the watch to say that another one is gone."""


class Ranks:
    """One process, alone; see `Several` for what the methods do between more.

    Attributes:
        rank: 0 .. count-1; 0 speaks for all.
        count: processes.
        samples: samples of the whole batch that is being computed, for dropout masks.
    """

    rank = 0
    count = 1
    samples = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def mine(self, items: Sequence[T]) -> list[T]:
        """This process's share of what all have: every `count`-th, so that no two differ by more than one."""
        return list(items[self.rank :: self.count])

    def take_up(self, adapter: Any) -> None:
        """Begin with equal weights, and with dropout masks that fit the whole batch."""

    def loss(self, losses_B: Tensor, samples: int) -> Tensor:
        """This process's part of the mean loss of a batch of `samples`."""
        return losses_B.mean()

    def combine(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """Sum gradients in place over the processes; returns the sum of `loss`."""
        return loss

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, on the CPU."""
        return tensor

    def asked(self, context: Any) -> tuple[list[Request], bool]:
        """(new requests, whether a signal asked any process to stop), the same in all processes."""
        return context.controls(), bool(context.stop_requested)

    def once(self, work: Callable[[], None]) -> None:
        """Let rank 0 do something while the others wait; what it raises is raised in all."""
        work()

    def check_equal(self, tensors: Iterable[Tensor]) -> None:
        """Make sure that all processes hold the same bits.

        Raises:
            JobError: they do not.
        """

    def barrier(self) -> None:
        """Wait for the others, however long."""

    def failed(self, error: BaseException, report: dict[str, str]) -> None:
        """Let an error of this process be known; does not return when another process is to blame for it."""

    def close(self) -> None:
        """Part in peace, when rank 0 is done too."""


class Several(Ranks):
    """One of several processes."""

    def __init__(self, device: torch.device, context: Any) -> None:
        """Meet the others; the default group is there already.

        Args:
            device: of this process.
            context: of the job; its journal hears of losses.
        """
        self.rank, self.count = dist.get_rank(), dist.get_world_size()
        self.device = device
        self._talk = dist.new_group(backend="gloo", timeout=LONG)
        who: list[dict[str, Any]] = [{}] * self.count
        for rank in range(self.count):
            who[rank] = self.share(process_identity().as_dict(), rank)
        self._watch = Watch(self.rank, [Identity(**one) for one in who], context)
        self._watch.start()

    def take_up(self, adapter: Any) -> None:
        """Rank 0's weights; masks as they would be in one process."""
        for tensor in [*(p.data for p in adapter.parameters()), *adapter.starts()]:
            dist.broadcast(tensor, 0)
        for slot in adapter.slots:
            for module in adapter.network.dropping(slot.layer):
                for part in module.modules():
                    if type(part) is nn.Dropout:
                        part.__class__ = DealtDropout
                        part.ranks = self

    def loss(self, losses_B: Tensor, samples: int) -> Tensor:
        """The sum over this process's samples, divided by those of all."""
        return losses_B.sum() / samples

    def combine(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
        """One exchange of all gradients and the loss; a parameter without a gradient anywhere keeps none."""
        flat = [loss.reshape(1).float(), torch.tensor([float(p.grad is not None) for p in parameters])]
        flat = [part.to(self.device) for part in flat]
        flat += [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters]
        total = torch.cat(flat)
        dist.all_reduce(total)
        loss_sum, has, *grads = total.split([1, len(parameters), *(p.numel() for p in parameters)])
        for parameter, there, grad in zip(parameters, has.tolist(), grads, strict=True):
            parameter.grad = grad.view_as(parameter) if there else None
        return loss_sum[0]

    def sum(self, tensor: Tensor) -> Tensor:
        """Over the CPU's group."""
        total = tensor.detach().cpu()
        dist.all_reduce(total, group=self._talk)
        return total

    def asked(self, context: Any) -> tuple[list[Request], bool]:
        """Rank 0 reads control/, all hear of it."""
        requests: list[Request] = context.controls() if self.first else []
        said = torch.tensor([len(requests), int(bool(context.stop_requested))])
        dist.all_reduce(said, dist.ReduceOp.MAX, group=self._talk)
        count, stop = said.tolist()
        if count:
            requests = [Request(**one) for one in self.share([asdict(r) for r in requests])]
        return requests, bool(stop)

    def share(self, value: Any, source: int = 0) -> Any:
        """The value that rank `source` has, plain JSON."""
        data = json.dumps(value).encode()
        size = torch.tensor([len(data)])
        dist.broadcast(size, source, group=self._talk)
        content = (
            torch.frombuffer(bytearray(data), dtype=torch.uint8)
            if self.rank == source
            else torch.empty(int(size), dtype=torch.uint8)
        )
        dist.broadcast(content, source, group=self._talk)
        return json.loads(bytes(content.tolist()))

    def once(self, work: Callable[[], None]) -> None:
        """Rank 0 works; the others hear how it went."""
        error: LoratuiError | None = None
        if self.first:
            try:
                work()
            except LoratuiError as raised:
                error = raised
        said = self.share([type(error).__name__, error.message, error.advice] if error else [])
        if error is not None:
            raise error
        if said:
            name, message, advice = said
            raise getattr(loratui.errors, name, JobError)(message, advice)

    def check_equal(self, tensors: Iterable[Tensor]) -> None:
        """By SHA-256."""
        digest = hashlib.sha256()
        for tensor in tensors:
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        first = self.share(digest.hexdigest())
        differ = self.sum(torch.tensor([int(first != digest.hexdigest())]))
        if int(differ):
            raise JobError(
                "The processes came to hold different weights; the newest checkpoint is older.",
                "Report this, and resume with memory.processes = 1.",
            )

    def barrier(self) -> None:
        """Over the CPU's group."""
        dist.barrier(group=self._talk)

    def failed(self, error: BaseException, report: dict[str, str]) -> None:
        """Ranks above 0 leave word for rank 0's watch."""
        if not isinstance(error, LoratuiError):
            self._watch.settle(SETTLE_S)
        self._watch.leave_word(report)

    def close(self) -> None:
        """Wait until rank 0 has exported, then take the group down."""
        self._watch.stop()
        self.barrier()
        dist.destroy_process_group()


class DealtDropout(nn.Dropout):  # type: ignore[misc]
    """Dropout with the mask of the whole batch, of which this process applies the rows of its samples."""

    ranks: Several

    def forward(self, input: Tensor) -> Tensor:
        """The same numbers that one process would see for these samples."""
        if not self.training or self.p == 0.0:
            return input
        samples, ranks = self.ranks.samples, self.ranks
        rows = len(range(ranks.rank, samples, ranks.count))
        each = input.shape[0] // rows  # long captions are several rows a sample
        whole = nn.functional.dropout(input.new_ones(samples, each, *input.shape[1:]), self.p, True)
        return input * whole[ranks.rank :: ranks.count].flatten(0, 1)


class Watch(threading.Thread):
    """Ends this process when its launcher or another process of the run is gone.

    Rank 0 says why first: a process that failed has left word, which becomes the run's error; one that was
    killed has not, and then the journal just breaks off: the run is seen as crashed.
    """

    def __init__(self, rank: int, who: list[Identity], context: Any) -> None:
        super().__init__(name="watch", daemon=True)
        self.rank, self.who, self.context = rank, who, context
        self._launcher = os.getppid()
        self._over = threading.Event()
        address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        # A connection of its own: the group's may be held by an exchange that waits for the dead.
        self._store = dist.TCPStore(*address, is_master=False, wait_for_workers=False)

    def run(self) -> None:
        """Look twice a second."""
        while not self._over.wait(WATCH_S):
            if os.getppid() != self._launcher:
                self._end("The launcher of this run's processes is gone.")
            for rank, one in enumerate(self.who):
                if rank != self.rank and not is_alive(one):
                    self._lost(rank, one)

    def stop(self) -> None:
        """From now on the others may leave."""
        self._over.set()

    def settle(self, seconds: float) -> None:
        """Give the watch time to end this process for a loss; returns when nobody is missing."""
        time.sleep(0 if self._over.is_set() else seconds)

    def leave_word(self, report: dict[str, str]) -> None:
        """Say why this process is about to end."""
        if self.rank:
            self._store.set(f"loratui/failed/{self.rank}", json.dumps(report))

    def _lost(self, rank: int, who: Identity) -> None:
        message = f"Process {rank + 1} of {len(self.who)} (pid {who.pid}) was lost: killed, or out of memory."
        if self.rank:
            self._end(message)
        key, journal = f"loratui/failed/{rank}", self.context.journal
        report = json.loads(self._store.get(key)) if self._store.check([key]) else None
        if report is not None:
            time.sleep(WATCH_S)  # rank 0 may be about to say the same
        if self._over.is_set() or journal.state.state in ENDED:
            self._over.set()
            return
        if report is not None:
            message = f"{report['message'].rstrip('.')} (in process {rank + 1} of {len(self.who)})."
            journal.write("error", **(report | {"message": message}), step=journal.state.step)
            journal.write("state", state="failed", reason=message, advice=report["advice"])
        else:
            journal.write("lost", rank=rank, pid=who.pid, message=message)
        self._end(message)

    def _end(self, message: str) -> None:
        sys.stderr.write(f"{message}\n")
        self.context.journal.close()
        os._exit(1)  # the main thread may wait for the lost process for ever


def join(processes: int, device: torch.device, context: Any) -> Ranks:
    """The processes of this run, as `place` has found them.

    Raises:
        ConfigError: there are not as many as the settings say.
    """
    started = dist.get_world_size() if dist.is_initialized() else 1
    if started != processes:
        raise ConfigError(
            f"memory.processes is {processes}, and {started} process{'es' * (started > 1)} of it started.",
            "Start the run with `loratui train` or `loratui resume`.",
        )
    if started == 1:
        return Ranks()
    ranks = Several(device, context)
    context.ranks = ranks
    return ranks

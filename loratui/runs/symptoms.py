"""Words of libraries and drivers that tell what went wrong, and what helps."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Symptom:
    """What a line means.

    Attributes:
        code: short stable name.
        message: what happened, in one sentence.
        advice: what to do.
    """

    code: str
    message: str
    advice: str


_TABLE: tuple[tuple[str, Symptom], ...] = (
    (
        (
            r"GPU is lost|fallen off the bus|no CUDA-capable device|CUDA unknown error|"
            r"devices? (?:is|are) busy or unavailable|uncorrectable ECC"
            r"|cudaErrorDevicesUnavailable|CUDA error: unknown error"
        ),
        Symptom(
            "device-lost",
            "The GPU was lost: the driver cannot reach it any more.",
            "Look at `nvidia-smi` and `dmesg | grep -i xid`; reset the GPU or restart the machine, check"
            " power and temperature, then resume.",
        ),
    ),
    (
        (
            r"CUDA out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED|HIP out of memory"
            r"|cudaErrorMemoryAllocation"
        ),
        Symptom(
            "device-memory",
            "The GPU ran out of memory.",
            "Lower batch_size, resolution or rank, or set memory.gradient_checkpointing = true; close other"
            " programs on the GPU, then resume.",
        ),
    ),
    (
        (
            r"illegal memory access|unspecified launch failure|device-side assert|misaligned address"
            r"|CUBLAS_STATUS_EXECUTION_FAILED|an illegal instruction"
        ),
        Symptom(
            "device-fault",
            "A program on the GPU failed.",
            "Resume with CUDA_LAUNCH_BLOCKING=1 set to see where; if it comes at other places each time, take"
            " back overclocking and look at `dmesg | grep -i xid`.",
        ),
    ),
    (
        (
            r"no kernel image is available|forward compatibility was attempted|driver version is insufficient"
            r"|NVIDIA driver on your system is too old"
        ),
        Symptom(
            "driver-mismatch",
            "torch and the NVIDIA driver or this GPU do not go together.",
            "`loratui doctor` shows both; install a torch built for this driver.",
        ),
    ),
    (
        r"No space left on device|Disk quota exceeded|\[Errno (?:28|122)\]",
        Symptom(
            "disk-full",
            "The disk is full.",
            "Free some space (`loratui runs --prune` shows what old states would free), then resume.",
        ),
    ),
    (
        r"insufficient shared memory|Bus error",
        Symptom(
            "shared-memory",
            "Shared memory (/dev/shm) ran out.",
            "Start the container with a larger --shm-size, then resume.",
        ),
    ),
    (
        r"DefaultCPUAllocator|Cannot allocate memory|\[Errno 12\]|^MemoryError",
        Symptom(
            "memory",
            "The machine ran out of memory.",
            "Close other programs or lower batch_size, then resume.",
        ),
    ),
    (
        r"NCCL|ChildFailedError|torch\.distributed|Connection reset by peer.*c10d",
        Symptom(
            "processes",
            "The processes of the training lost each other.",
            "The first error in log.txt says which; resume starts all of them again.",
        ),
    ),
    (
        r"ImportError|undefined symbol|cannot open shared object file|GLIBCXX|ModuleNotFoundError",
        Symptom(
            "broken-install",
            "A package is missing or broken.",
            "`loratui doctor` shows what; install it again, then resume.",
        ),
    ),
    (
        r"Too many open files|\[Errno 24\]",
        Symptom(
            "open-files", "Too many files were open.", "Raise the limit with `ulimit -n 65536`, then resume."
        ),
    ),
    (
        r"Stale file handle|Input/output error|Transport endpoint is not connected|\[Errno (?:5|107|116)\]",
        Symptom(
            "disk-away",
            "The disk failed or went away.",
            "Check that the disk is mounted and sound (`dmesg`), then resume.",
        ),
    ),
)
_COMPILED = tuple((re.compile(pattern), symptom) for pattern, symptom in _TABLE)


def symptom(words: str) -> Symptom | None:
    """What these words mean; None when they are not known."""
    return next((known for pattern, known in _COMPILED if pattern.search(words)), None)

"""The network types: what each is, which settings it heeds, and which programs load its files. Torch-free.

Who loads what comes from the consumers' own code: diffusers 0.42 refuses LoHa, LoKr and OFT keys for SD1.x,
SD2.x and SDXL and drops `dora_scale` from kohya files, but takes a DoRA in PEFT form; A1111 divides a DoRA's
magnitudes by norms along the other axis; PEFT's OFT rotates a layer's input, the `oft_blocks` of ComfyUI and
A1111 rotate its output, so no file can say one in terms of the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

STARTS = frozenset({"pissa", "olora", "loftq"})
"""Values of `network.init` that begin with a product that is not zero: their files have twice the rank."""
LORA_OPTIONS = frozenset(
    {"dropout", "init", "init_rounds", "rank_stabilized", "lora_plus", "conv_rank", "conv_alpha"}
)


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A light row of the table of network types.

    Attributes:
        name: in `network.kind`.
        title: for people.
        about: one line on what it is and when to take it.
        module: implements it (torch inside); loaded only in a job.
        parts: tensors of a module in its files, beside alpha; the first one tells the type.
        options: settings of [network] that only some types heed, and this one does.
        format: of the files a run exports, `kohya` or `peft`.
        loads: the programs that load that file.
        note: what to know before a run, empty when every program loads it.
    """

    name: str
    title: str
    about: str
    module: str
    parts: frozenset[str]
    options: frozenset[str]
    format: str
    loads: tuple[str, ...]
    note: str = ""


NETWORKS: tuple[NetworkSpec, ...] = (
    NetworkSpec(
        "lora", "LoRA", "W + (alpha / rank) B A: the one that everything loads",
        "loratui.train.networks.lora", frozenset({"down", "up"}),
        LORA_OPTIONS | {"scale_norm"}, "kohya", ("diffusers", "comfyui", "a1111"),
    ),
    NetworkSpec(
        "dora", "DoRA", "magnitude and direction apart: nearer to full training at low ranks, slower",
        "loratui.train.networks.dora", frozenset({"dora_scale", "down", "up"}),
        LORA_OPTIONS, "kohya", ("comfyui",),
        "ComfyUI loads a DoRA, dividing by the base's norms, so that strong ones come out a little different;"
        " diffusers loads its PEFT form; A1111 misreads its magnitudes.",
    ),
    NetworkSpec(
        "loha", "LoHa", "Hadamard product of two low-rank products: rank r gives up to r squared",
        "loratui.train.networks.loha",
        frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"}),
        frozenset({"rank_dropout", "module_dropout", "conv_rank", "conv_alpha", "tucker", "scale_norm"}),
        "kohya", ("comfyui", "a1111"), "diffusers does not load a LoHa.",
    ),
    NetworkSpec(
        "lokr", "LoKr", "Kronecker product: very small files",
        "loratui.train.networks.lokr",
        frozenset({"lokr_w1", "lokr_w2", "lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b", "lokr_t2"}),
        frozenset({"rank_dropout", "module_dropout", "conv_rank", "conv_alpha", "tucker", "factor",
                   "decompose_both", "scale_norm"}),
        "kohya", ("comfyui", "a1111"), "diffusers does not load a LoKr.",
    ),
    NetworkSpec(
        "oft", "OFT", "rotates each layer's input by small orthogonal blocks: keeps what the base can do",
        "loratui.train.networks.oft", frozenset({"oft_R"}),
        frozenset({"module_dropout", "block_size"}), "peft", ("peft",),
        "Only PEFT loads an OFT made here: ComfyUI and A1111 rotate outputs, PEFT rotates inputs.",
    ),
)  # fmt: skip

OPTIONAL: frozenset[str] = frozenset().union(*(n.options for n in NETWORKS))
"""Settings of [network] that some type does not heed."""


def network_spec(name: str) -> NetworkSpec | None:
    """The row of `name`, or None."""
    return next((n for n in NETWORKS if n.name == name), None)


def network_of(parts: Iterable[str]) -> NetworkSpec | None:
    """Which type a module is of, by the tensors it has; None for a mixture or something else."""
    own = set(parts) - {"alpha"}
    fits = [n for n in NETWORKS if own and own <= n.parts]
    return min(fits, key=lambda n: len(n.parts)) if fits else None

"""Captions of drawn scenes in many phrasings, with gaps, extra words and words without meaning.

`caption` is what the base trains on; `held_out_prompt` phrases things in ways that it never saw.
No caption ever speaks of the demo's mascot.
"""

from __future__ import annotations

import random

from figures import SHAPES
from scenes import NONSENSE, Scene, Thing

NOUNS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "circle", "disc", "dot", "round shape"),
    "square": ("square", "square", "box", "block"),
    "triangle": ("triangle", "triangle", "triangular shape"),
    "star": ("star", "star", "five pointed star"),
    "heart": ("heart", "heart", "heart shape"),
    "diamond": ("diamond", "diamond", "rhombus"),
    "ring": ("ring", "ring", "hoop", "donut"),
    "cross": ("cross", "cross", "plus sign", "plus"),
    "moon": ("moon", "moon", "crescent", "crescent moon"),
    "arrow": ("arrow", "arrow", "arrow sign"),
    "face": ("face", "person", "head of a person", "face with {c} hair"),
    "house": ("house", "cottage", "home"),
    "tree": ("tree", "tree", "little tree"),
    "fish": ("fish", "fish", "goldfish"),
    "car": ("car", "car", "automobile"),
    "flower": ("flower", "flower", "blossom"),
    "boat": ("boat", "sailing boat", "ship"),
    "cat": ("cat", "kitten", "cat face"),
    "rocket": ("rocket", "rocket", "spaceship"),
    "mushroom": ("mushroom", "mushroom", "toadstool"),
    "butterfly": ("butterfly", "butterfly", "moth"),
    "snowman": ("snowman", "snowman with a {c} scarf"),
    "cup": ("cup", "mug", "coffee cup"),
    "cake": ("cake", "birthday cake"),
    "bird": ("bird", "little bird"),
    "balloon": ("balloon", "hot air balloon"),
    "umbrella": ("umbrella", "parasol"),
    "icecream": ("ice cream", "ice cream cone"),
    "turtle": ("turtle", "tortoise"),
    "ladybug": ("ladybug", "beetle"),
    "train": ("train", "steam engine", "locomotive"),
    "apple": ("apple", "apple"),
    "gift": ("gift", "present", "parcel"),
}

SYNONYMS: dict[str, tuple[str, ...]] = {
    "red": ("crimson", "scarlet"),
    "orange": ("tangerine",),
    "yellow": ("golden",),
    "green": ("emerald",),
    "teal": ("turquoise", "cyan"),
    "blue": ("navy", "azure"),
    "purple": ("violet",),
    "pink": ("rose",),
    "brown": ("chocolate",),
    "black": ("jet black",),
    "white": ("snow white",),
    "grey": ("gray", "gray"),
}

FILLERS = (
    "simple", "nice", "cute", "flat", "clean", "minimal", "best quality", "high quality", "cartoon",
    "sticker", "icon", "clip art", "vector art", "toy", "shiny", "little", "happy", "funny", "old", "new",
    "standing", "sitting", "waving", "jumping", "running", "looking left", "looking at viewer", "smiling",
    "front view", "side view", "from above", "centered", "solo", "masterpiece", "sharp", "soft light",
    "arms up", "arms down", "one hand raised", "tilted", "leaning", "far away", "close up", "full body",
)  # fmt: skip
PREFIXES = (
    "a picture of", "picture of", "a drawing of", "drawing of", "an image of", "image of", "photo of",
    "a photo of", "illustration of", "an icon of", "this is", "there is", "it shows", "we see", "draw",
)  # fmt: skip
BACKGROUNDS = (
    "on a {b} background", "on {b} background", "{b} background", "{b} background", "{b} background",
    "with a {b} background", "over {b}", "on {b}", "against a {b} backdrop", "{b} backdrop",
    "background: {b}", "background {b}", "backdrop: {b}", "the background is {b}", "in front of {b}",
    "{b} bg", "on a {b} wall", "plain {b} background", "in front of a {b} wall", "background in {b}",
)  # fmt: skip
FRAMES = (
    "a {b} picture with {s}", "a {b} image of {s}", "{b} canvas with {s} in front", "on {b}, {s}",
    "on a {b} background there is {s}", "against {b}: {s}", "a {b} page showing {s}", "{b} room, {s}",
    "the wall is {b} and there is {s}", "{b} all around, {s}", "all {b} except for {s}", "{b} sky with {s}",
    "{b} paper and {s} drawn in the middle", "a {b} field that holds {s}", "{b} poster with {s}",
    "make it {b} with {s}", "a scene in {b}, {s} in it", "{b} drawing, {s} stands out", "in a {b} place {s}",
    "{s}, everything else is {b}", "{s} surrounded by {b}", "{s} painted over {b}", "{s} and {b} around it",
    "{s} with {b} behind it", "{s} on a {b} sheet", "{s} where the backdrop is {b}", "around {s} it is {b}",
    "{s} in a {b} room", "behind {s} there is {b}", "{s} lying on a {b} table", "{s} under a {b} sky",
)  # fmt: skip
ONSETS = (
    "b",
    "d",
    "f",
    "g",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "z",
    "bl",
    "kr",
    "sn",
    "tr",
    "sh",
    "x",
    "w",
    "h",
    "j",
    "",
)
VOWELS = ("a", "e", "i", "o", "u", "oo", "ai", "y")
CODAS = ("", "", "n", "k", "rp", "x", "s", "t", "b", "lm", "g", "z", "sk", "ks")


def nonsense(rng: random.Random) -> str:
    """Return a made-up word."""
    if rng.random() < 0.25:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz0123456789") for _ in range(rng.randint(2, 5)))
    parts = [rng.choice(ONSETS) + rng.choice(VOWELS) + rng.choice(CODAS) for _ in range(rng.randint(1, 3))]
    return "".join(parts)


def colour_word(colour: str, rng: random.Random) -> str:
    """Return a colour's name or one of its synonyms."""
    return rng.choice(SYNONYMS[colour]) if rng.random() < 0.15 else colour


def name_thing(thing: Thing, rng: random.Random) -> tuple[str, bool]:
    """Return what to call a thing, and whether the name tells its colour already."""
    if thing.kind == NONSENSE:
        words = [nonsense(rng) for _ in range(rng.choice((1, 1, 2)))]
        return " ".join(words), False
    if rng.random() < 0.03:
        return nonsense(rng), False
    noun = rng.choice(NOUNS[thing.kind])
    return noun.replace("{c}", colour_word(thing.colour, rng)), "{c}" in noun


def thing_phrase(thing: Thing, rng: random.Random) -> str:
    """Return a noun phrase such as `a small red disc`, `disc (red)` or `disc that is red`."""
    noun, told = name_thing(thing, rng)
    colour = (
        ""
        if told or rng.random() < (0.6 if thing.kind == NONSENSE else 0.1)
        else colour_word(thing.colour, rng)
    )
    size = thing.size_word if rng.random() < 0.4 else ""
    if size:
        size = rng.choice({"small": ("small", "tiny", "little"), "large": ("large", "big", "huge")}[size])
    if rng.random() < 0.12:
        noun = f"{rng.choice((rng.choice(FILLERS), nonsense(rng)))} {noun}"
    roll = rng.random()
    if not colour or roll < 0.62:
        phrase = " ".join(w for w in (size, colour, noun) if w)
    else:
        base = " ".join(w for w in (size, noun) if w)
        form = rng.choice(
            (
                "{n} ({c})",
                "{n} in {c}",
                "{n} that is {c}",
                "{n}, {c}",
                "{n} colored {c}",
                "{c}, {n}",
                "{c} coloured {n}",
            )
        )
        phrase = form.format(n=base, c=colour)
    if rng.random() < 0.45:
        article = "an" if phrase[0] in "aeiou" else "a"
        phrase = f"{rng.choice((article, article, 'one', 'the'))} {phrase}"
    return phrase


def place_phrase(thing: Thing, rng: random.Random) -> str:
    """Return where a thing is, or nothing."""
    h, v = thing.place_words
    if h and v:
        where = rng.choice((f"{v} {h}", f"{v} {h} corner", "corner"))
    elif h or v:
        where = h or v
    else:
        where = rng.choice(("middle", "center", "centre"))
    return rng.choice(("{w}", "in the {w}", "at the {w}", "on the {w}")).format(w=where)


def background_phrase(scene: Scene, rng: random.Random) -> str:
    """Return a phrase that names the background."""
    colour = colour_word(scene.background, rng)
    if scene.texture in ("striped", "dotted") and rng.random() < 0.8:
        colour = f"{scene.texture} {colour}"
    elif scene.texture == "soft" and rng.random() < 0.4:
        colour = f"{rng.choice(('soft', 'gradient', 'smooth'))} {colour}"
    return rng.choice(BACKGROUNDS).format(b=colour)


def join_things(phrases: list[str], rng: random.Random) -> str:
    """Return several noun phrases as one."""
    if len(phrases) == 1:
        return phrases[0]
    glue = rng.choice((" and ", ", ", " next to ", " with ", " plus ", " beside "))
    return glue.join(phrases) if len(phrases) == 2 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def framed(subject: str, scene: Scene, rng: random.Random) -> str:
    """Return subject and background in one clause, the background first in half of them."""
    text = rng.choice(FRAMES).format(b=colour_word(scene.background, rng), s=subject)
    if rng.random() < 0.2:
        text = f"{rng.choice(FILLERS)}, {text}"
    return f"{text}, {rng.choice(FILLERS)}" if rng.random() < 0.2 else text


def caption(scene: Scene, rng: random.Random) -> str:
    """Return one of the many captions of a scene; some leave things out, some add noise."""
    parts: list[str] = []
    if scene.things and rng.random() < 0.97:
        phrases = [thing_phrase(t, rng) for t in scene.things]
        subject = join_things(phrases, rng)
        if rng.random() < 0.25:
            subject = f"{rng.choice(PREFIXES)} {subject}"
        if rng.random() < 0.18:
            subject = f"{rng.choice(('sks', 'xyz', 'ohwx', nonsense(rng), nonsense(rng)))} {subject}"
        if rng.random() < 0.25:
            return framed(subject, scene, rng)
        parts.append(subject)
        if len(scene.things) == 1 and rng.random() < 0.35:
            parts.append(place_phrase(scene.things[0], rng))
    if not parts or rng.random() < 0.92:
        where = 0 if rng.random() < 0.18 else len(parts)
        parts.insert(where, background_phrase(scene, rng))
    while rng.random() < 0.3:
        filler = rng.choice(FILLERS) if rng.random() < 0.7 else nonsense(rng)
        parts.insert(rng.randint(0, len(parts)), filler)
    glue = rng.choice((", ", ", ", ", ", " ", " ", "; ", " - ", ". ", " | "))
    text = glue.join(parts)
    roll = rng.random()
    return text.capitalize() + "." if roll < 0.1 else text


HELD_OUT_FORMS = (
    "{b} everywhere and a {c} {n} on it",
    "my favourite {n} is {c}, painted on {b} paper",
    "{n} / {c} / background {b}",
    "could you paint one {c} {n} please? make the background {b}",
    "behind the {c} {n} everything is {b}",
    "{c} {n} upon a {b} surface",
    "a {b} scene containing a {c} {n}",
    "graphic design, {c} {n}, {b} colored background, 4k",
)


def held_out_prompt(kind: str, colour: str, background: str, rng: random.Random) -> str:
    """Return a prompt in a phrasing that training never used; half of them use its plain ones."""
    noun = NOUNS[kind][0]
    if rng.random() < 0.5:
        return rng.choice(HELD_OUT_FORMS).format(n=noun, c=colour, b=background)
    scene = Scene(background, "plain", [Thing(kind, colour)])
    lead = rng.choice(("", "a ", "a picture of a ", "sks ", f"{nonsense(rng)}, "))
    return (
        f"{lead}{colour} {noun}{rng.choice((', ', ' '))}{rng.choice(BACKGROUNDS).format(b=scene.background)}"
    )


SHAPE_NAMES = tuple(SHAPES)

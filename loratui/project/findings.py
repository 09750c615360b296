"""All that is wrong with the pictures and captions of a project, and what a filter needs to know first.

The screens and the command line ask the same questions here, so that they give the same answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from loratui.dataset.audit import OF_CAPTIONS, Finding, Text, audit, audit_each
from loratui.dataset.framing import Frame, Grids
from loratui.dataset.query import Node, Not, SortKey, Term
from loratui.dataset.rows import PictureRow
from loratui.errors import LoratuiError, Severity
from loratui.project.collection import Collection

MEASURED_FIELDS = frozenset({"blur", "sharpness", "dup", "problem", "face"})
"""Fields of the filter that are known only after the pictures were measured."""
_ENLARGED = 2.0
TINY_FACE_PX = 48
"""A face that is trained on at less than this height, six cells of the latents, teaches no likeness."""
_LOOKS: dict[str, str] = {
    "blurry": "look blurred.",
    "dark": "are dark.",
    "light": "are very light.",
    "odd-aspect": "are much longer than wide, or the other way round.",
    "low-information": "show little: one colour, or nearly.",
}


def fields_of(node: Node) -> set[str]:
    """Names of the fields a filter asks for."""
    if isinstance(node, Term):
        return {node.field} - {""}
    parts: Iterable[Node] = (node.part,) if isinstance(node, Not) else node.parts
    return set().union(*map(fields_of, parts))


def find_out(
    collection: Collection,
    node: Node | None = None,
    keys: Sequence[SortKey] = (),
    count_tokens: Callable[[str], int] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[PictureRow]:
    """Rows with all that a filter and an order ask for: measured, grouped, counted, audited where needed.

    Args:
        collection: refreshed by the caller.
        node: the filter.
        keys: the order.
        count_tokens: counts CLIP tokens of a text.
        on_progress: called with (done, of) while pictures are measured.
    """
    asked = (fields_of(node) if node is not None else set()) | {k.field for k in keys}
    if asked & MEASURED_FIELDS:
        measure(collection, on_progress, "face" in asked or ("problem" in asked and is_of_faces(collection)))
    rows = collection.rows()
    if count_tokens is not None and "tokens" in asked:
        for row in rows:
            row.tokens = count_tokens(row.caption)
    if "problem" in asked:
        codes: defaultdict[str, list[str]] = defaultdict(list)
        for finding in project_findings(collection, rows, count_tokens):
            for path in finding.paths:
                codes[path].append(finding.code)
        for row in rows:
            row.problems = tuple(dict.fromkeys((*row.problems, *codes.get(row.rel, ()))))
    return rows


def is_of_faces(collection: Collection) -> bool:
    """Whether the project is to learn a character, so that faces matter."""
    try:
        preset = collection.project.load_preset()
    except LoratuiError:
        return False
    return preset is not None and preset.goal == "character"


def measure(
    collection: Collection,
    on_progress: Callable[[int, int], None] | None = None,
    faces: bool = False,
) -> None:
    """Measure what is not measured yet, without thumbnails, and find near-duplicates.

    Args:
        collection: of the project.
        on_progress: called with (done, of), and again from 0 while faces are looked for.
        faces: look for them, too, where a detector is installed.
    """
    total = collection.index.count_unmeasured()
    for done, _ in enumerate(collection.index.measure(), 1):
        if on_progress is not None:
            on_progress(done, total)
    if faces:
        total = len(collection.index.unlooked())
        for done, _ in enumerate(collection.look_for_faces(), 1):
            if on_progress is not None:
                on_progress(done, total)
    collection.regroup()


def project_findings(
    collection: Collection,
    rows: Sequence[PictureRow],
    count_tokens: Callable[[str], int] | None = None,
) -> list[Finding]:
    """Findings on files, looks, near-duplicates, buckets and captions, the worst first."""
    found = [*audit(_texts(rows), collection.project.trigger, count_tokens), *_files(rows)]
    found += [*_looks(rows), *_doubles(collection, rows), *_small(collection, rows)]
    if is_of_faces(collection):
        found += _tiny_faces(collection, rows)
    order = {"error": 0, "warning": 1, "info": 2}
    return sorted(found, key=lambda f: (order[f.severity], -f.share, f.code))


def audit_again(
    rows: Sequence[PictureRow],
    before: Mapping[str, PictureRow],
    trigger: str,
    count_tokens: Callable[[str], int] | None = None,
) -> None:
    """What an audit said of pictures whose captions are others now, as far as they tell it themselves.

    Args:
        rows: the new rows; their `audited` is filled in.
        before: the old rows by file, with what the audit found.
        trigger: of the project.
        count_tokens: counts CLIP tokens of a text.
    """
    codes = audit_each(_texts(rows), trigger, count_tokens)
    for row in rows:
        old = before.get(row.known.file)
        kept = [code for code in old.audited if code not in OF_CAPTIONS] if old is not None else []
        row.audited = (*kept, *codes[row.rel])


def _texts(rows: Sequence[PictureRow]) -> list[Text]:
    return [Text(r.rel, r.caption, bool(r.known.suffix), r.known.encoding or "utf-8") for r in rows]


def _files(rows: Sequence[PictureRow]) -> list[Finding]:
    """Files that cannot be used, one finding a kind, and animations."""
    by_code: defaultdict[str, list[PictureRow]] = defaultdict(list)
    for row in rows:
        if row.known.code:
            by_code[row.known.code].append(row)
    out = []
    for code, hit in by_code.items():
        message = f"{len(hit)} cannot be used: {hit[0].known.message}"
        out.append(_finding(code, "error", message, hit, rows))
    unmeasured = [r for r in rows if not r.known.code and r.known.measured not in ("", "ok")]
    if unmeasured:
        message = f"{len(unmeasured)} cannot be decoded: {unmeasured[0].known.measured}"
        out.append(_finding("corrupt-image", "error", message, unmeasured, rows))
    animated = [r for r in rows if r.known.frames > 1]
    if animated:
        out.append(
            _finding(
                "animated",
                "info",
                f"{len(animated)} are animations; the first frame is used.",
                animated,
                rows,
            )
        )
    return out


def _looks(rows: Sequence[PictureRow]) -> list[Finding]:
    out = []
    for code, words in _LOOKS.items():
        hit = [r for r in rows if r.known.quality is not None and code in r.known.quality.findings()]
        if hit:
            # what most pictures look like is their style
            severity: Severity = "info" if code != "blurry" and len(hit) * 2 > len(rows) else "warning"
            out.append(_finding(code, severity, f"{len(hit)} {words}", hit, rows))
    return out


def _doubles(collection: Collection, rows: Sequence[PictureRow]) -> list[Finding]:
    names = {r.known.file: r.rel for r in rows}
    out = []
    for group in collection.groups:
        paths = tuple(names[c.path] for c in group.members if c.path in names)
        if len(paths) < 2:
            continue
        what = "look the same" if group.sure else "look alike"
        best = names.get(group.keep.path, "")
        message = f"{len(paths)} pictures {what}; {best} is the largest and sharpest."
        code = "near-duplicate" if group.sure else "similar-pictures"
        severity: Severity = "warning" if group.sure else "info"
        out.append(Finding(code, severity, message, paths, best, len(paths) / max(1, len(rows))))
    return out


def _small(collection: Collection, rows: Sequence[PictureRow]) -> list[Finding]:
    """Pictures that the trainer has to enlarge twice, as `scan` says of each."""
    grids = Grids(collection.data)
    known: dict[tuple[int, int, Frame], float] = {}
    hit = []
    for row in rows:
        if row.width and row.height:
            key = (row.width, row.height, row.frame)
            if key not in known:
                known[key] = grids.buckets(*key)[-1].upscale
            hit += [row] if known[key] >= _ENLARGED else []
    message = f"{len(hit)} are small for their bucket: enlarged {_ENLARGED:g} times or more."
    return [_finding("small-image", "warning", message, hit, rows)] if hit else []


def _tiny_faces(collection: Collection, rows: Sequence[PictureRow]) -> list[Finding]:
    """Pictures of a character whose face is too small to be learned, at the size they are trained at."""
    grids = Grids(collection.data)
    hit = []
    for row in rows:
        if not row.face or not row.width or not row.height:
            continue
        bucket = grids.buckets(row.width, row.height, row.frame)[-1]
        across = bucket.scaled[0] if row.frame.turn in {90, 270} else bucket.scaled[1]
        hit += [row] if row.face * across < TINY_FACE_PX else []
    if not hit:
        return []
    message = f"{len(hit)} have a face of less than {TINY_FACE_PX} px where they are trained."
    # some whole figures belong into a set; when most are, the face is not learned
    severity: Severity = "warning" if 2 * len(hit) > sum(bool(row.face) for row in rows) else "info"
    return [_finding("tiny-face", severity, message, hit, rows)]


def _finding(
    code: str, severity: Severity, message: str, hit: Sequence[PictureRow], rows: Sequence[PictureRow]
) -> Finding:
    return Finding(code, severity, message, tuple(r.rel for r in hit), share=len(hit) / max(1, len(rows)))

"""Sound files, mangled: bytes that change, values of another kind, archives with odd members.

All follows from a ``random.Random``: hypothesis gives one whose draws it shrinks, the fuzzing
command a seeded one.
"""

import copy
import io
import json
import struct
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

import yaml

NUMBERS: tuple[Any, ...] = (
    *(0, -1, 1, 2, 3, 255, 65_536, 2**31 - 1, 2**31, 2**63, 2**64, -(2**63), 10**400, 10**9),
    *(0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), float("-inf")),
)
TEXTS = (
    *("", " ", "\0", "ant", "bee", "..", "../../x", "/etc/passwd", "=cmd()", "\ud800", "\u2028"),
    *(
        "a" * 5000,
        "💥" * 300,
        "</script>",
        "%s{0}{{7*7}}",
        "test",
        "baseline",
        "cpsd",
        "nan",
        "1e999",
    ),
    *(
        "co-occurrence",
        "random",
        "whole",
        "whole-2",
        "2026-01-01",
        "[bold]",
        "\x1b[31m",
        "-0",
        "train",
    ),
)
TOKENS = (
    *(b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\r\n", b"\n", b",", b";", b'"', b"'", b"\t"),
    *(b"nan", b"inf", b"-1", b"1e999", b"../../x", b"/etc/passwd", b"=cmd()", b"*", b"?", b"<a>"),
    *(
        b"99999999999999999999",
        b"\xed\xa0\x80",
        b"{",
        b"[" * 300,
        b"}",
        b"]",
        b"null",
        b"<!DOCTYPE a>",
    ),
    *(b"\x80\x04c__builtin__\nexec\n", b"&a [*a]", b"!!python/object:os.system", b"\xff" * 8),
)


def mangled(random: Random, seeds: list[bytes], name: str) -> bytes:
    """Return a file like one of ``seeds`` with something wrong in it.

    Args:
        random: draws all of it.
        seeds: sound files.
        name: of the file; its suffix says what it is.
    """
    seed = random.choice(seeds)
    ways: list[Callable[[Random, bytes], bytes]] = [_bytes_changed]
    if name.endswith((".json", ".yaml")):
        ways += [_value_changed] * 3
    elif name.endswith(".jsonl"):
        ways += [_line_changed] * 3
    elif name.endswith((".csv", ".tsv", ".txt", ".xml")):
        ways += [_cells_changed] * 2
    elif seed[:4] == b"PK\x03\x04":
        ways += [_member_changed] * 3
    elif seed[:6] == b"\x93NUMPY":
        ways += [_header_changed] * 2
    elif name.endswith(".safetensors"):
        ways += [_safetensors_changed] * 2
    return random.choice(ways)(random, seed)


def hostile_value(random: Random, depth: int = 0) -> Any:
    """Return a JSON value that nobody expects."""
    kind = random.randrange(8 if depth < 3 else 5)
    if kind == 0:
        return random.choice(NUMBERS)
    if kind == 1:
        return random.choice(TEXTS)
    if kind == 2:
        return random.choice((None, True, False))
    if kind == 3:
        return random.choice(([], {}, [[]], [{}], {"": None}))
    if kind == 4:
        return random.randint(-10, 300)
    if kind == 5:
        return [hostile_value(random, depth + 1) for _ in range(random.randrange(4))]
    if kind == 6:
        return {
            str(random.choice(TEXTS)): hostile_value(random, depth + 1)
            for _ in range(random.randrange(4))
        }
    return _nested(random.choice((50, 900, 3000)))


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def _bytes_changed(random: Random, seed: bytes) -> bytes:
    content = bytearray(seed)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        place = random.randrange(len(content) + 1)
        end = min(len(content), place + random.choice((1, 2, 4, 8, 64, 4096)))
        way = random.randrange(7)
        if way == 0 and content:
            content[min(place, len(content) - 1)] ^= 1 << random.randrange(8)
        elif way == 1:
            del content[place:end]
        elif way == 2:
            content[place:place] = random.choice(TOKENS)
        elif way == 3:
            content[place:end] = random.choice(TOKENS)
        elif way == 4:
            content[place:place] = content[place:end] * random.choice((1, 2, 50))
        elif way == 5:
            del content[place:]
        else:
            number = random.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 50_000))
            packed = struct.pack(random.choice(("<I", ">I", "<Q", ">H")), number & 0xFFFF)
            content[place : place + len(packed)] = packed
    return bytes(content)


def _value_changed(random: Random, seed: bytes) -> bytes:
    content = yaml.safe_load(seed) if seed[:1] not in b"{[" else json.loads(seed)
    try:
        return json.dumps(change_value(random, content)).encode()
    except (RecursionError, ValueError):
        return b"[" * 100_000


def change_value(random: Random, content: Any) -> Any:
    """Return JSON with one to three of its values changed, removed or put where none was."""
    content = copy.deepcopy(content)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = _places(content)
        if not places:
            return hostile_value(random)
        holder, key = random.choice(places)
        way = random.randrange(10)
        if way < 7:
            holder[key] = hostile_value(random)
        elif way == 7:
            del holder[key]
        elif isinstance(holder, dict):
            holder[str(random.choice(TEXTS))] = hostile_value(random)
        else:
            holder.append(copy.deepcopy(holder[key]))
    return hostile_value(random) if random.randrange(30) == 0 else content


def _places(content: Any) -> list[tuple[Any, Any]]:
    """Return each value of a JSON content as what holds it and where."""
    found: list[tuple[Any, Any]] = []
    left = [content]
    while left and len(found) < 5000:
        holder = left.pop()
        entries: Any = ()
        if isinstance(holder, dict):
            entries = holder.items()
        elif isinstance(holder, list):
            entries = enumerate(holder)
        for key, value in entries:
            found.append((holder, key))
            left.append(value)
    return found


def _line_changed(random: Random, seed: bytes) -> bytes:
    lines = seed.splitlines()
    place = random.randrange(len(lines))
    lines[place] = _value_changed(random, lines[place])
    return b"\n".join(lines)


def _cells_changed(random: Random, seed: bytes) -> bytes:
    lines = [line.split(b",") for line in seed.split(b"\n")]
    for _ in range(random.choice((1, 2, 3))):
        line = random.choice(lines)
        cell = random.randrange(len(line))
        way = random.randrange(5)
        if way < 3:
            text = str(random.choice((*TEXTS, *NUMBERS[:-8])))
            line[cell] = text.encode("utf-8", "surrogatepass")
        elif way == 3:
            lines.append(list(random.choice(lines)))
        else:
            line.append(random.choice(TOKENS))
    return b"\n".join(b",".join(line) for line in lines)


def _member_changed(random: Random, seed: bytes) -> bytes:
    """Return an archive with a member changed, its checksum right."""
    with zipfile.ZipFile(io.BytesIO(seed)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    place = random.randrange(len(members))
    name, content = members[place]
    way = random.randrange(6)
    if way < 4:
        change = _header_changed if content[:6] == b"\x93NUMPY" else _bytes_changed
        members[place] = (name, change(random, content))
    elif way == 4:
        del members[place]
    else:
        members[place] = (name, random.choice(members)[1])
    stream = io.BytesIO()
    kind = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


_SHAPES = ("(3,)", "()", "(0,)", "(-1,)", "(1000000000000,)", "(2, 2)", "(3, 2)", "(50000, 50000)")
_TYPES = ("<f4", "<f8", "|O", "<U9", ">i8", "|b1", "|S0", "<c16", "|V4", "<M8[ns]", "u1", "<i2")


def _header_changed(random: Random, seed: bytes) -> bytes:
    """Return a ``.npy`` file with a header that says something else."""
    if random.randrange(3) == 0:
        return _bytes_changed(random, seed)
    length = struct.unpack("<H", seed[8:10])[0]
    data = seed[10 + length :]
    kind, shape = random.choice(_TYPES), random.choice(_SHAPES)
    order = random.choice(("False", "True", "None"))
    header = f"{{'descr': '{kind}', 'fortran_order': {order}, 'shape': {shape}, }}"
    padded = header.ljust(117 - len(header) % 16 + len(header))[:116] + "\n"
    return seed[:8] + struct.pack("<H", len(padded)) + padded.encode() + data


def _safetensors_changed(random: Random, seed: bytes) -> bytes:
    """Return a safetensors file with another header."""
    length = struct.unpack("<Q", seed[:8])[0]
    changed = _value_changed(random, seed[8 : 8 + length])
    return struct.pack("<Q", len(changed)) + changed + seed[8 + length :]

"""Mutations of valid files, and values that no reader expects."""

from __future__ import annotations

import json
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

INTERESTING = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
WORDS = (
    *(
        "nan",
        "inf",
        "-inf",
        "1e999",
        "-0.0",
        "1_000",
        "0x10",
        "9" * 400,
        "9" * 5000,
        "",
        " ",
        "\x00",
        "\x1b[31m",
        "\ufeff",
    ),
    *("../../../tmp/x", "/etc/passwd", "~nobody-here/x", "a" * 5000, "\ud800", "<script>alert(1)</script>", "'\"<&>"),
    *(
        "!!python/object/apply:os.system",
        "&a [*a]",
        "*a",
        "${HOME}",
        "None",
        "true",
        "1:2:3",
        "2020-13-45",
        "$x_{",
        "١٢",
    ),
)


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Some of: flipped bits, other bytes, a cut, a splice, a repeated or removed part, interesting numbers."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        kind = rng.randrange(8)
        if not out:
            return rng.randbytes(rng.randrange(40))
        at = rng.randrange(len(out))
        length = min(len(out) - at, rng.choice((1, 2, 4, 8, 32, 256)))
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + length] = rng.randbytes(length)
        elif kind == 2:
            del out[at:]
        elif kind == 3:
            del out[at : at + length]
        elif kind == 4:
            out[at:at] = out[at : at + length] * rng.choice((1, 2, 50))
        elif kind == 5:
            other = rng.randrange(len(out))
            out[at : at + length] = out[other : other + length]
        elif kind == 6:
            size = rng.choice((1, 2, 4, 8))
            out[at : at + size] = (rng.choice(INTERESTING) % 2 ** (8 * size)).to_bytes(size, "little")
        else:
            out[at:at] = rng.choice(WORDS).encode("utf-8", "surrogatepass")
    return bytes(out)


def text_damaged(rng: random.Random, text: str) -> str:
    """A line, a word or a character removed, doubled, swapped or replaced."""
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        separator = rng.choice(("\n", "\n", ",", ":", " ", ""))
        parts = list(text) if not separator else text.split(separator)
        if not parts:
            return rng.choice(WORDS)
        at, other = rng.randrange(len(parts)), rng.randrange(len(parts))
        kind = rng.randrange(5)
        if kind == 0:
            del parts[at]
        elif kind == 1:
            parts.insert(at, parts[other])
        elif kind == 2:
            parts[at], parts[other] = parts[other], parts[at]
        elif kind == 3:
            parts[at] = rng.choice(WORDS)
        else:
            parts[at] += rng.choice((*WORDS, *"\"'[]{}:#&*!|>%@`,\n\t\r0"))
        text = separator.join(parts)
    return text


def value(rng: random.Random, depth: int = 0) -> Any:
    """Anything that JSON knows."""
    kind = rng.randrange(9 if depth < 3 else 6)
    if kind == 0:
        return None
    if kind == 1:
        return rng.random() < 0.5
    if kind == 2:
        return rng.choice((0, 1, -1, 2**31, 10**30, rng.randrange(-5, 50)))
    if kind == 3:
        return rng.choice((0.0, -1.5, 1e308, 5e-324, 1e-300, rng.gauss(0.0, 1.0)))
    if kind in (4, 5):
        return rng.choice((*WORDS, "digits", "erf", "saddle")).replace("\ud800", "?")
    if kind == 6:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {rng.choice(("data", "width", "x", "grid", "a")): value(rng, depth + 1) for _ in range(rng.randrange(3))}


def other_json(rng: random.Random, plain: Any) -> Any:
    """Plain data with one to three of its parts replaced, removed or doubled."""
    plain = json.loads(json.dumps(plain))
    for _ in range(rng.choice((1, 1, 2, 3))):
        holder: Any = plain
        while isinstance(holder, (dict, list)) and holder:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            key = rng.choice(keys)
            if isinstance(holder[key], (dict, list)) and holder[key] and rng.random() < 0.8:
                holder = holder[key]
                continue
            kind = rng.randrange(4)
            if kind == 0:
                del holder[key]
            elif kind == 1 and isinstance(holder, list):
                holder.insert(key, holder[rng.randrange(len(holder))])
            else:
                holder[key] = value(rng)
            break
    return plain


def json_text(rng: random.Random, plain: Any) -> str:
    """JSON of changed data, or changed JSON."""
    kind = rng.randrange(10)
    if kind == 0:
        depth = rng.choice((10, 100, 2000, 100_000))
        return rng.choice(("[", '{"a":')) * depth + rng.choice(("", "]" * depth))
    if kind == 1:
        return text_damaged(rng, json.dumps(plain))
    if kind == 2:
        return json.dumps(plain).replace("1", rng.choice(("NaN", "Infinity", "1e999", "9" * 5000)), 1)
    return json.dumps(other_json(rng, plain))


def npy(rng: random.Random, header: bytes | None = None) -> bytes:
    """The bytes of an npy member with a header of any kind."""
    shape = rng.choice(
        ("(3,)", "(3, 2)", "()", "(0,)", "(1000000000, 1000000000)", "(-1,)", "(3L,)", "(True,)", "(2**60,)", "3")
    )
    descr = rng.choice(
        (
            "'<f8'",
            "'|O'",
            "'<U1000000'",
            "'|S0'",
            "'|V8'",
            "[('a','<f8')]",
            "'>c16'",
            "'<M8[ns]'",
            "'<f2'",
            "'|b1'",
            "'zz'",
        )
    )
    order = rng.choice(("False", "True", "1", "None"))
    text = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    text = rng.choice((text, text, text, b"{" * 500, b"__import__('os').system('true')", b"", rng.randbytes(40)))
    version = rng.choice(((1, 0), (2, 0), (3, 0), (9, 9)))
    length = rng.choice((len(text), len(text), len(text), 0, 65535, 2**32 - 1 if version != (1, 0) else 60000))
    size = struct.pack("<H" if version == (1, 0) else "<I", length % 2 ** (16 if version == (1, 0) else 32))
    return b"\x93NUMPY" + bytes(version) + size + text + rng.randbytes(rng.choice((0, 8, 24, 48)))


def archive(rng: random.Random, path: Path, members: dict[str, bytes]) -> None:
    """A zip file of these members, with tricks: other compressions, names twice, paths, bombs, a cut."""
    kinds = (zipfile.ZIP_STORED,) * 20 + (zipfile.ZIP_DEFLATED,) * 20 + (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    members = dict(members)
    if rng.random() < 0.5:
        name = rng.choice(list(members))
        members[name] = rng.choice((npy(rng), damaged(rng, members[name]), b"", b"\x93NUMPY\x02\x00\xff\xff\xff\xff"))
    if rng.random() < 0.05:
        members[rng.choice(list(members))] = npy(rng)[:12] + bytes(2**22)  # deflates to a few kilobytes
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            if rng.random() < 0.02:
                continue
            file.writestr(rng.choice((name,) * 100 + ("../x.npy", "/etc/x.npy", name.upper())), data, rng.choice(kinds))
    if rng.random() < 0.2:
        path.write_bytes(damaged(rng, path.read_bytes()))


def tail_damaged(rng: random.Random, data: bytes) -> bytes:
    """Damage among the last bytes, where a zip file keeps its directory and its sizes."""
    cut = max(0, len(data) - 400)
    return data[:cut] + damaged(rng, data[cut:])

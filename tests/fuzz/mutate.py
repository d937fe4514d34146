"""Makes broken files of valid ones: bytes, lines, words, numbers, and parts of structures.

rng = random.Random(7)
broken = of_bytes(rng, valid)                   # for a binary file
broken = of_text(rng, valid)                    # for YAML, XML, JSON, BVH
broken = of_structure(rng, {"a": [1.0, 2.0]})   # before it is written
"""

import copy
import itertools
import pickletools
import random
import re

import numpy as np

NUMBER = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
WORD = re.compile(rb"[A-Za-z_][\w.-]*")
NUMBERS = """
nan inf -inf 1e300 -1e300 1e38 1e-300 -1 0 -0.0 1 2 0.5 1e9 1e10 -1e9 2147483648 4294967296
9223372036854775808 1e19 00 0x10 1_000 1e400 --1 1.2.3
""".split()
NASTY = (
    *(b"", b"\0", b"\xff\xfe", b"\xc3", b"null", b"true", b"[]", b"{}", b"''", b"~", b"${seed}"),
    *(b"[" * 200, b"{a: " * 200, b"<a>" * 600, b"9" * 5000, b"&a [*a]", b"*a", b"<<: *a", b"../x"),
    *(b"!!python/name:os.system", b"\x1b[2J", b"\n", b"\r\n\t", b":", b"-", b" ", "ü".encode()),
    *(b"A" * 3000, b"${oc.env:HOME}", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"/dev/zero"),
)


INSTRUCTIONS = (
    *(b"2", b"0", b"1", b"(", b"t", b"}", b"]", b")", b"u", b"s", b"a", b"e", b"R", b"b", b"\x81"),
    *(b"r\x00\x46\xc3\x23", b"j\x00\x00\x00\x00", b"h\x00", b"q\x00", b"\x94", b"\x93", b"N"),
    *(b"\x8a\xff" + b"\xff" * 255, b"\x8b\xff\xff\xff\x7f", b"I01\n"),
    *(b"\x8e" + b"\0\0\0\0\0\1\0\0", b"\x95" + b"\xff" * 8),
    *(b"cposix\nsystem\n", b"cbuiltins\neval\n", b"ccollections\nOrderedDict\n"),
    *(b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"\x80\x05", b"L9999999999999999L\n", b"."),
    *(b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy.core.multiarray\nscalar\n", b"\x82\x01"),
)  # fmt: skip


def of_bytes(rng, data):
    """A few changes of bytes, without regard to what they mean."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(data) + 1)
        length = min(rng.choice((1, 2, 4, 8, 64)), len(data) - at)
        match rng.randrange(8):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at % len(data)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                data[at : at + length] = rng.choice((b"\0", b"\xff", b"\x7f")) * length
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = rng.randbytes(length or 1)
            case 5:
                data[at:at] = data[at : at + length] * rng.choice((1, 2, 100))
            case 6:
                del data[at:]
            case 7:
                value = rng.choice((0, -1, 2**31 - 1, 2**31, 2**40, 2**63 - 1, rng.getrandbits(32)))
                data[at : at + 8] = value.to_bytes(9, "little", signed=True)[:8]
    return bytes(data)


def of_text(rng, data):
    """Changes of numbers, words and lines; sometimes of bytes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        match rng.randrange(10):
            case 0 | 1 | 2 | 3:
                data = _replace(rng, data, NUMBER, lambda: rng.choice(NUMBERS).encode())
            case 4:
                words = WORD.findall(data) or [b"x"]
                data = _replace(rng, data, WORD, lambda words=words: rng.choice(words))
            case 5:
                data = _replace(rng, data, WORD, lambda: rng.choice(NASTY))
            case 6:
                data = _replace(rng, data, NUMBER, lambda: rng.choice(NASTY))
            case 7 | 8:
                data = _of_lines(rng, data)
            case 9:
                data = of_bytes(rng, data)
    return data


def _replace(rng, data, pattern, new):
    found = list(pattern.finditer(data))
    if not found:
        return data
    match = rng.choice(found)
    return data[: match.start()] + new() + data[match.end() :]


def _of_lines(rng, data):
    lines = data.split(b"\n")
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            del lines[a]
        case 1:
            lines.insert(b, lines[a])
        case 2:
            lines[a], lines[b] = lines[b], lines[a]
        case 3:
            lines[a] = b" " * rng.randrange(8) + lines[a].strip()
        case 4:
            lines.insert(a, rng.choice(NASTY))
    return b"\n".join(lines)


def of_pickle(rng, data):
    """Instructions deleted, repeated, moved, or with other arguments."""
    places = [at for _, _, at in pickletools.genops(data)] + [len(data)]
    parts = [data[a:b] for a, b in itertools.pairwise(places)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        at, other = rng.randrange(len(parts)), rng.choice(parts)
        match rng.randrange(6):
            case 0:
                del parts[at]
            case 1:
                parts.insert(at, other)
            case 2:
                parts[at] = other
            case 3:
                parts.insert(at, rng.choice(INSTRUCTIONS))
            case 4:
                parts[at] = parts[at][:1] + rng.randbytes(len(parts[at]) - 1)
            case 5:
                parts[at:at] = [parts[at]] * rng.choice((2, 100, 20_000))
    return b"".join(parts)


def values(rng, old):
    """Something to put in the place of `old`: of another kind, another size, or no number."""
    simple = (None, True, -1, 0, 1, 2**31, 2**63, 10**400, "", "x", "1", "nan", "a\0b", "\x1b[2J")
    floats = (np.nan, np.inf, -np.inf, 1e300, -1e300, 1e38, -1.0, 0.0, 1e-300, 0.5)
    match rng.randrange(4):
        case 0:
            return rng.choice(simple)
        case 1:
            return rng.choice(floats)
        case 2:
            return rng.choice(
                ([], {}, [None], {"a": 1}, [[]], [old], {"a": old}, [1, 2, 3], (1, 2))
            )
        case _:
            return _like(rng, old)


def _like(rng, old):
    """A value of the same kind as `old`, but wrong."""
    if isinstance(old, np.ndarray):
        change = rng.randrange(7)
        if change == 0 and old.size and old.dtype.kind == "f":
            new = old.copy()
            new.reshape(-1)[rng.randrange(old.size)] = rng.choice((np.nan, np.inf, -1e30, 1e5))
            return new
        if change == 1 and old.dtype.kind in "biuf":
            return old.astype(rng.choice(("f2", "f4", "f8", "i4", "i8", "u1", "?", "c8", ">f8")))
        if change == 2:
            return old.reshape(-1)
        if change == 3:
            return old[..., None]
        if change == 4 and old.ndim:
            return old[: rng.randrange(len(old) + 1)]
        if change == 5 and old.ndim:
            return np.concatenate([old, old])
        return np.zeros(rng.choice(((), (0,), (1,), (2, 0), (3, 3), (1, 1, 1, 1))), old.dtype)
    if isinstance(old, str):
        return rng.choice((old + "x", old[:-1], old.upper(), old * 500, f"{old}\n", f"../{old}"))
    if isinstance(old, bool):
        return not old
    if isinstance(old, (int, float)):
        old = min(max(old, -1e300), 1e300)
        return rng.choice((-old, old + 1, old * 1000, old / 3, str(old), f"{old}x", [old], 1 - old))
    return copy.deepcopy(old)


def of_structure(rng, value, change=values):
    """A copy of nested dictionaries and lists with one to three places changed."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return value
        holder, key = rng.choice(places)
        match rng.randrange(8):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[f"{key}x"] = holder.pop(key)
            case 2:
                other, name = rng.choice(places)
                holder[key] = copy.deepcopy(other[name]) if _has(other, name) else None
            case 3 if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case 4 if isinstance(holder, dict):
                holder[rng.choice(("new", "", 3, "a.b", "__class__", str(key).upper()))] = 1
            case _:
                holder[key] = change(rng, holder[key])
    return value


def _has(holder, key):
    return key in holder if isinstance(holder, dict) else key < len(holder)


def _places(value, most=4000):
    """(container, key) of every value below `value`."""
    waiting, seen = [value], 0
    while waiting and seen < most:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            seen += 1
            yield holder, key
            if isinstance(holder[key], (dict, list)):
                waiting.append(holder[key])


def seeded(target, number):
    """The generator of a case: the same for the same target and number, on every machine."""
    return random.Random(f"{target}/{number}")

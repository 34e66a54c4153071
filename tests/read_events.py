#!/usr/bin/env python3
"""Print the scalars of a TensorBoard event file as JSON lines, checking every length and checksum.

With --tensorboard they are read by the tensorboard package instead, to compare the two.

    read_events.py FILE|DIR [--tensorboard]
"""
import json
import os
import struct
import sys


def crc32c(data):
    c = 0xFFFFFFFF
    for byte in data:
        c ^= byte
        for _ in range(8):
            c = c >> 1 ^ (0x82F63B78 if c & 1 else 0)
    return c ^ 0xFFFFFFFF


def masked(data):
    c = crc32c(data)
    return ((c >> 15 | c << 17) + 0xA282EAD8) & 0xFFFFFFFF


def records(data):
    at = 0
    while at < len(data):
        (n,) = struct.unpack_from("<Q", data, at)
        assert struct.unpack_from("<I", data, at + 8)[0] == masked(data[at:at + 8]), f"length's checksum at {at}"
        payload = data[at + 12:at + 12 + n]
        assert struct.unpack_from("<I", data, at + 12 + n)[0] == masked(payload), f"checksum at {at}"
        yield payload
        at += 16 + n


def fields(m):
    """(number, value) of a protocol-buffer message; bytes for what has a length."""
    at = 0

    def varint():
        nonlocal at
        v = shift = 0
        while True:
            v |= (m[at] & 127) << shift
            shift += 7
            at += 1
            if m[at - 1] < 128:
                return v

    while at < len(m):
        key = varint()
        if key & 7 == 0:
            value = varint()
        elif key & 7 == 2:
            n = varint()
            value, at = m[at:at + n], at + n
        else:
            size, form = {1: (8, "<d"), 5: (4, "<f")}[key & 7]
            value, at = struct.unpack_from(form, m, at)[0], at + size
        yield key >> 3, value


def scalars(path):
    for payload in records(open(path, "rb").read()):
        event = dict(fields(payload))
        for _, value in fields(event.get(5, b"")):
            v = dict(fields(value))
            yield event[2], v[1].decode(), v[2]


def scalars_by_tensorboard(path):
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    for event in LegacyEventFileLoader(path).Load():
        for v in event.summary.value:
            yield event.step, v.tag, v.simple_value


def main():
    path = sys.argv[1]
    if os.path.isdir(path):
        (name,) = [n for n in os.listdir(path) if n.startswith("events.out.tfevents.")]
        path = os.path.join(path, name)
    for step, tag, value in (scalars_by_tensorboard if "--tensorboard" in sys.argv else scalars)(path):
        print(json.dumps({"step": step, "tag": tag, "value": value}))


if __name__ == "__main__":
    main()

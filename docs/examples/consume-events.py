#!/usr/bin/env python3
"""Reads Doorbuster's announcements from Redis, each once and in order, and prints one JSON line for each.

    consume-events.py [--url redis://127.0.0.1:6379/] [--prefix doorbuster] [--place FILE] [--count N] [STREAM...]

Nothing but Python's own library. What a real consumer does too: it keeps its place where it keeps its work (here a file),
lets an event that it has seen pass, notices a gap in a subject's sequence numbers, and comes back when Redis was away. An
entry's id in its stream is a function of the journal, so the place stays good even if Redis loses everything and is refilled.
"""

import argparse
import json
import os
import socket
import sys
import time
from urllib.parse import unquote, urlparse

STREAMS = ["orders", "inventory", "carts", "reservations"]


class Redis:
    """As much of a Redis client as this needs."""

    def __init__(self, url):
        url = urlparse(url)
        self.socket = socket.create_connection((url.hostname, url.port or 6379), timeout=10)
        self.file = self.socket.makefile("rb")
        if url.password:
            names = [unquote(url.username)] if url.username else []
            self.ask("AUTH", *names, unquote(url.password))
        if url.path.strip("/"):
            self.ask("SELECT", url.path.strip("/"))

    def ask(self, *words):
        parts = [f"*{len(words)}\r\n".encode()]
        for word in words:
            data = str(word).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
        self.socket.sendall(b"".join(parts))
        return self.answer()

    def answer(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis hung up")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise ConnectionError(rest.decode())
        if kind == b"$":
            length = int(rest)
            return None if length < 0 else self.file.read(length + 2)[:-2].decode()
        if kind == b"*":
            return None if int(rest) < 0 else [self.answer() for _ in range(int(rest))]
        return rest.decode()


class Place:
    """Where the consumer stands: the last entry of each stream, and the last number of each subject."""

    def __init__(self, path):
        self.path = path
        self.entries, self.sequences = {}, {}
        if path and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                self.entries, self.sequences = json.load(file)

    def keep(self):
        if self.path:
            with open(self.path + ".new", "w", encoding="utf-8") as file:
                json.dump([self.entries, self.sequences], file)
            os.replace(self.path + ".new", self.path)


def take(place, stream, entry, fields):
    """One entry: told once, a gap said aloud."""
    values = dict(zip(fields[::2], fields[1::2]))
    event = json.loads(values["event"])
    subject, number = event["subject"], event.get("sequence")
    if number is not None:
        last = place.sequences.get(subject, 0)
        if int(number) <= last:
            return 0
        if int(number) > last + 1 and last > 0:
            print(f"{subject}: {last + 1} to {int(number) - 1} are missing", file=sys.stderr)
        place.sequences[subject] = int(number)
    print(json.dumps(event, separators=(",", ":")), flush=True)
    place.entries[stream] = entry
    return 1


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--url", default=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/"))
    options.add_argument("--prefix", default="doorbuster")
    options.add_argument("--place", help="a file in which to keep the place")
    options.add_argument("--count", type=int, help="end after so many events")
    options.add_argument("streams", nargs="*", default=STREAMS)
    given = options.parse_args()
    names = {f"{given.prefix}:{{events}}:{stream}": stream for stream in given.streams}
    place, redis, taken = Place(given.place), None, 0
    while given.count is None or taken < given.count:
        try:
            redis = redis or Redis(given.url)
            after = [place.entries.get(stream, "0-0") for stream in names.values()]
            answer = redis.ask("XREAD", "COUNT", 100, "BLOCK", 2000, "STREAMS", *names, *after)
        except OSError as error:
            print(f"Redis is away ({error}); the place is kept", file=sys.stderr)
            redis = None
            time.sleep(0.5)
            continue
        for key, entries in answer or []:
            for entry, fields in entries:
                taken += take(place, names[key], entry, fields)
                # A real consumer does its work and this in one transaction.
                place.entries[names[key]] = entry
        if answer:
            place.keep()


if __name__ == "__main__":
    main()

"""Publishes from many sessions at once, and notes what listeners must hear.

publish.py --directory DIRECTORY --sessions N --messages N --text CHANNEL... --ephemeral CHANNEL... --durable CHANNEL...

Each session writes a file, publisher-N, in the order of its calls: a line per message that was committed, with
channel and payload in base64, and a line that begins with "-" for what was rolled back or refused. Some payloads
are the same in all sessions, and those come more than once. All others have the numbers of session and message.
The choices are random with a fixed seed: each run publishes the same messages.
"""

import argparse
import json
import multiprocessing
import random
import sys
from functools import partial

import psycopg

from heard import encode

LONGEST_NOTIFY = 7999
# What code that quotes, splits, normalises or counts characters is likely to get wrong.
SNIPPETS = [
    "'", '"', "\\", "''", '\\"', "\\u0041", "\n", "\r\n", "\t", "\x01", "\x1f", "\x7f", "%s", "$1", ":x", "{}", "$$", "--",
    "é", "e\u0301", "\u1112\u1161\u11ab", "Z\u0351\u036b\u0343", "\ufeff", "\u2028", "\u202e", "\u200d",
    "👩\u200d👩\u200d👧", "🇪🇺", "𝄞", "𠀀", "\U000e0041", "\ufffe", "\ufffd", "\U0010ffff", "ẞß", "İı", "שלום", "今日は",
]
# Some messages are one of these, in all sessions.
EQUAL_TEXTS = ["", "equal", "é", '{"equal": true}']
EQUAL_OBJECTS = [{}, {"equal": True}, {"é": ["é"]}]


class Refused(Exception):
    pass


def any_text(rng):
    """Some snippets, and a character of each of some planes: any but zero and surrogates."""
    pieces = rng.sample(SNIPPETS, 4)
    for _ in range(4):
        code = rng.randrange(17) * 0x10000 + rng.randrange(1, 0x10000)
        if not 0xd800 <= code < 0xe000:
            pieces.append(chr(code))
    rng.shuffle(pieces)
    return "".join(pieces)


def as_jsonb_prints(value):
    return json.dumps(value, ensure_ascii=False)


def fill(make, rng, size):
    """What make() makes of a text, with as many bytes as size says."""
    text = "".join(any_text(rng) for _ in range(size // 80))
    return make(text + "x" * (size - len(make(text).encode())))


class Session:
    def __init__(self, number, options):
        self.number = number
        self.options = options
        self.rng = random.Random(number)
        self.connection = psycopg.connect(autocommit=True, options="-c statement_timeout=60s")
        self.file = open(f"{options.directory}/publisher-{number}", "w")
        self.drawn = 0
        self.written = 0

    def label(self):
        self.drawn += 1
        return [self.number, self.drawn]

    def draw(self, kinds):
        """A message: kind, channel, payload as it will be heard."""
        kind = self.rng.choice(kinds)
        channel = self.rng.choice(getattr(self.options, kind))
        if kind == "text":
            return kind, channel, "{} {} ".format(*self.label()) + any_text(self.rng)
        # jsonb sorts members by length first
        value = {"n": self.label(), "text": any_text(self.rng), any_text(self.rng) + "long": [1.50, None, "é"]}
        return kind, channel, as_jsonb_prints(value)

    def draw_equal(self):
        # The same for all sessions that have come equally far, so that many send it at the same time.
        rng = random.Random(self.written // 25)
        kind = rng.choice(["text", "ephemeral", "durable"])
        channel = rng.choice(getattr(self.options, kind))
        if kind == "text":
            return kind, channel, rng.choice(EQUAL_TEXTS)
        return kind, channel, as_jsonb_prints(rng.choice(EQUAL_OBJECTS))

    def draw_long(self, kind, size):
        channel = self.rng.choice(getattr(self.options, kind))
        begin = "{} {} ".format(*self.label())
        if kind == "text":
            return kind, channel, fill(lambda text: begin + text, self.rng, size)
        return kind, channel, fill(lambda text: as_jsonb_prints({"n": begin, "text": text}), self.rng, size)

    def send(self, message):
        kind, channel, payload = message
        if kind == "text":
            self.connection.execute("SELECT herald.notify(%s, %s)", [channel, payload])
        else:
            cast = self.rng.choice(["", "::text", "::json", "::jsonb"])
            self.connection.execute(f"SELECT herald.publish(%s, %s{cast})", [channel, payload])

    def send_batch(self, messages):
        self.connection.execute("SELECT herald.publish_batch(%s, %s::jsonb[])",
                                [messages[0][1], [payload for _, _, payload in messages]])

    def write(self, messages):
        for _, channel, payload in messages:
            print(encode(channel), encode(payload), sep="\t", file=self.file)
            self.written += 1

    def write_unheard(self, messages):
        for _, channel, payload in messages:
            print("-", encode(channel), encode(payload), sep="\t", file=self.file)

    # What a transaction may look like. Each gets messages that are all different.

    def one_by_one(self, messages):
        for message in messages:
            self.send(message)
            self.write([message])

    def together(self, messages):
        with self.connection.transaction():
            for message in messages:
                self.send(message)
            # Folded, as NOTIFY does it; but pointers are never equal.
            for message in messages:
                if len(message[2].encode()) <= LONGEST_NOTIFY:
                    self.send(message)
        self.write(messages)

    def batch(self, messages):
        kind, channel, _ = messages[0]
        if kind == "text":
            return self.one_by_one(messages)
        messages = [message for message in messages if message[0] == kind]
        messages = [(kind, channel, payload) for _, _, payload in messages]
        self.send_batch(messages)
        self.write(messages)

    def rolled_back(self, messages):
        with self.connection.transaction(force_rollback=True):
            for message in messages:
                self.send(message)
        self.write_unheard(messages)

    def with_savepoint(self, messages):
        kept = []
        with self.connection.transaction():
            for message in messages:
                lost = self.rng.random() < 0.4
                with self.connection.transaction(force_rollback=lost):
                    self.send(message)
                if lost:
                    self.write_unheard([message])
                else:
                    kept.append(message)
        self.write(kept)

    def failed(self, messages):
        try:
            with self.connection.transaction():
                for message in messages:
                    self.send(message)
                raise Refused
        except Refused:
            self.write_unheard(messages)

    def refused(self, message, sqlstate):
        try:
            self.send(message)
        except psycopg.Error as error:
            if error.sqlstate != sqlstate:
                raise
            self.write_unheard([message])
        else:
            raise SystemExit(f"{len(message[2])} characters were not refused on {message[1]!r}")

    def send_long(self):
        sizes = [LONGEST_NOTIFY, LONGEST_NOTIFY + 1, 100_000]
        self.one_by_one([self.draw_long("text", LONGEST_NOTIFY)])
        self.one_by_one([self.draw_long("ephemeral", size) for size in sizes])
        self.together([self.draw_long(kind, size) for kind in ("durable", "ephemeral") for size in sizes])
        self.refused(self.draw_long("text", LONGEST_NOTIFY + 1), "22023")
        self.refused(self.draw_long("text", 100_000), "22023")

    def run(self):
        kinds = ["text", "ephemeral", "durable"]
        forms = [(self.one_by_one, 10), (self.together, 3), (self.batch, 2), (self.rolled_back, 1),
                 (self.failed, 1), (self.with_savepoint, 1)]
        forms, weights = zip(*forms)
        self.send_long()
        told = 0
        while self.written < self.options.messages:
            left = self.options.messages - self.written
            if self.rng.random() < 0.25:
                self.one_by_one([self.draw_equal()])
            else:
                form = self.rng.choices(forms, weights)[0]
                count = self.rng.randint(1, min(left, 8))
                form([self.draw(kinds) for _ in range(count)])
            if self.written >= told + 100:
                told = self.written
                print(f"session {self.number}: {told} messages", flush=True)
        self.file.close()
        self.connection.close()


def run(number, options, start):
    session = Session(number, options)
    start.wait(60)
    session.run()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", required=True)
    parser.add_argument("--sessions", type=int, required=True)
    parser.add_argument("--messages", type=int, required=True, help="that each session commits")
    for kind in ("text", "ephemeral", "durable"):
        parser.add_argument(f"--{kind}", nargs="+", required=True)
    options = parser.parse_args()

    context = multiprocessing.get_context("fork")
    start = context.Barrier(options.sessions)
    sessions = [context.Process(target=partial(run, number, options, start)) for number in range(options.sessions)]
    for session in sessions:
        session.start()
    for session in sessions:
        session.join()
    failed = [number for number, session in enumerate(sessions) if session.exitcode != 0]
    if failed:
        sys.exit(f"sessions {failed} failed")


main()

"""What a listening client hears, noted in a file, so that all clients can be judged alike.

A line per notification: pid, channel, payload; a line "=", message id, payload for each pointer that was
fetched. Channels and payloads are in base64. A notification on the channel of the end says how many there
were on each channel: until then, and until all of them are heard, a client listens on.
"""

import base64
import json
import re

# A client gives up when it has heard nothing for so many seconds.
SILENCE = 60

POINTER = re.compile(r'\{"herald": \{"message_id": ([0-9]+), "bytes": [0-9]+\}\}')


def encode(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


class Heard:
    def __init__(self, path, end):
        self.file = open(path, "w")
        self.end = end
        self.expected = None
        self.counts = {}
        self.to_fetch = 0

    def note(self, pid, channel, payload):
        """Returns the message's id where the payload is a pointer, else None."""
        print(pid, encode(channel), encode(payload), sep="\t", file=self.file)
        self.counts[channel] = self.counts.get(channel, 0) + 1
        if channel == self.end:
            self.expected = json.loads(payload)
        pointer = POINTER.fullmatch(payload)
        if not pointer:
            return None
        self.to_fetch += 1
        return int(pointer[1])

    def note_fetched(self, message_id, payload):
        print("=", message_id, encode(payload), sep="\t", file=self.file)
        self.to_fetch -= 1

    def missing(self):
        """What is still to be heard; an empty text where nothing is."""
        if self.expected is None:
            return f"the end, after {sum(self.counts.values())} notifications"
        lacking = [f"{count - self.counts.get(channel, 0)} of {count} on {channel!r}"
                   for channel, count in self.expected.items() if self.counts.get(channel, 0) < count]
        if self.to_fetch:
            lacking.append(f"{self.to_fetch} payloads of pointers")
        return ", ".join(lacking)

    def finish(self, name):
        self.file.close()
        if self.missing():
            raise SystemExit(f"{name}: nothing was heard for {SILENCE} s; missing: {self.missing()}")

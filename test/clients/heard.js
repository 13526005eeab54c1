// What a listening client hears, noted in a file: the same as heard.py, for JavaScript.

'use strict';

const fs = require('fs');

const SILENCE = 60;
const POINTER = /^\{"herald": \{"message_id": ([0-9]+), "bytes": [0-9]+\}\}$/;

const encode = (text) => Buffer.from(text, 'utf8').toString('base64');

class Heard {
  // done() is called when everything was heard, or nothing any more.
  constructor(name, path, end, done) {
    Object.assign(this, { name, end, done, expected: null, counts: {}, toFetch: 0, ended: false });
    this.path = path;
    this.lines = [];
    this.restart();
  }

  restart() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.finish(), SILENCE * 1000);
  }

  // Returns the message's id where the payload is a pointer, else undefined.
  note(pid, channel, payload) {
    this.restart();
    this.lines.push(`${pid}\t${encode(channel)}\t${encode(payload)}\n`);
    this.counts[channel] = (this.counts[channel] ?? 0) + 1;
    if (channel === this.end) this.expected = JSON.parse(payload);
    const pointer = POINTER.exec(payload);
    if (pointer) this.toFetch++;
    this.check();
    return pointer?.[1];
  }

  noteFetched(messageId, payload) {
    this.lines.push(`=\t${messageId}\t${encode(payload)}\n`);
    this.toFetch--;
    this.check();
  }

  missing() {
    if (this.expected === null) {
      const heard = Object.values(this.counts).reduce((a, b) => a + b, 0);
      return `the end, after ${heard} notifications`;
    }
    const lacking = Object.entries(this.expected)
      .filter(([channel, count]) => (this.counts[channel] ?? 0) < count)
      .map(([channel, count]) => `${count - (this.counts[channel] ?? 0)} of ${count} on '${channel}'`);
    if (this.toFetch > 0) lacking.push(`${this.toFetch} payloads of pointers`);
    return lacking.join(', ');
  }

  check() {
    if (this.expected !== null && this.missing() === '') this.finish();
  }

  finish() {
    if (this.ended) return;
    this.ended = true;
    clearTimeout(this.timer);
    fs.writeFileSync(this.path, this.lines.join(''));
    const missing = this.missing();
    if (missing !== '') {
      console.error(`${this.name}: nothing was heard for ${SILENCE} s; missing: ${missing}`);
      process.exitCode = 1;
    }
    this.done();
  }
}

module.exports = { Heard };

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { EndEvent, GenerationEvent } from '../event.js';
import { EventStream } from './event-stream.js';
import { StopStrings } from './stop-strings.js';
import { TextAssembly } from './text-assembly.js';

/** Few letters, so that strings overlap themselves and each other. */
const letters = (most: number) => fc.string({ unit: fc.constantFrom('a', 'b', 'é', '🌲'), maxLength: most });
const stops = fc.array(
  letters(4).filter((stop) => stop.length > 0),
  { maxLength: 3 },
);

/** By the definition: character by character, the first place at which one of the strings is complete. */
function definition(text: string, stopStrings: readonly string[]): { text: string; stop?: string } {
  for (let end = 1; end <= text.length; end++) {
    const found = stopStrings.filter((stop) => text.slice(0, end).endsWith(stop)).sort((a, b) => b.length - a.length);
    if (found[0] !== undefined) return { text: text.slice(0, end - found[0].length), stop: found[0] };
  }
  return { text };
}

describe('stop strings', () => {
  test('end a text at the same place however it is cut, and hold no more back than they have to', () => {
    fc.assert(
      fc.property(letters(30), stops, fc.array(fc.nat(30), { maxLength: 6 }), (text, stopStrings, cuts) => {
        const borders = [...new Set([0, ...cuts.filter((cut) => cut < text.length), text.length])].sort(
          (a, b) => a - b,
        );
        const watch = new StopStrings(stopStrings);
        let told = '';
        let stop: string | undefined;
        for (let i = 1; i < borders.length && stop === undefined; i++) {
          const pushed = watch.push(text.slice(borders[i - 1], borders[i]));
          told += pushed.text;
          stop = pushed.stop;
          const held = text.slice(told.length, borders[i]);
          if (stop === undefined && held !== '')
            assert.ok(
              stopStrings.some((each) => each.length > held.length && each.startsWith(held)),
              `${held} is held back`,
            );
        }
        if (stop === undefined) told += watch.end();
        const expected = definition(text, stopStrings);
        assert.equal(told, expected.text);
        assert.equal(stop, expected.stop);
      }),
      { numRuns: 500 },
    );
  });
});

describe('text of bytes', () => {
  test('comes in whole characters wherever the bytes are cut', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 20 }), fc.integer({ min: 1, max: 4 }), (text, size) => {
        const bytes = Buffer.from(text);
        const assembly = new TextAssembly([]);
        let told = '';
        for (let at = 0; at < bytes.length; at += size) {
          const piece = assembly.push(bytes.subarray(at, at + size)).text;
          assert.doesNotMatch(piece, /\p{Surrogate}/u);
          told += piece;
        }
        assert.equal(told + assembly.end(), bytes.toString());
      }),
    );
  });

  test('a byte that is none becomes U+FFFD, the beginning of a character at the end nothing', () => {
    const assembly = new TextAssembly([]);
    assert.equal(assembly.push(Uint8Array.of(0x61, 0xff, 0xe2)).text, 'a\ufffd');
    assert.equal(assembly.push(Uint8Array.of(0x82)).text, '');
    assert.equal(assembly.push(Uint8Array.of(0xac, 0xf0)).text, '€');
    assert.equal(assembly.end(), '');
  });

  test('a character may begin in the prompt, a stop string may not', () => {
    const assembly = new TextAssembly(['ab']);
    assert.equal(assembly.echo(Uint8Array.of(0x61, 0xc3)), 'a');
    assert.deepEqual(assembly.push(Uint8Array.of(0xa9, 0x62)), { text: 'éb' });
  });
});

describe('a stream of events', () => {
  const text = (value: string, id: number): GenerationEvent & { kind: 'text' } => ({
    kind: 'text',
    text: value,
    tokens: [{ id }],
  });
  const end = { kind: 'end', finishReason: 'eos' } as EndEvent;

  test('a reader that waits gets each, one that comes late all as one', async () => {
    const stream = new EventStream(() => assert.fail('nobody has left'), 0);
    const waiting = stream.next();
    for (const [id, value] of ['a', 'b', 'c'].entries()) stream.push(text(value, id));
    assert.deepEqual((await waiting).value, text('a', 0));
    assert.deepEqual((await stream.next()).value, { kind: 'text', text: 'bc', tokens: [{ id: 1 }, { id: 2 }] });
    stream.end(end);
    stream.push(text('never', 9));
    assert.deepEqual((await stream.next()).value, end);
    assert.deepEqual(await stream.next(), { value: undefined, done: true });
    await stream.return();
  });

  test('an error comes behind the text before it, and once', async () => {
    const stream = new EventStream(() => undefined, 0);
    stream.push(text('a', 0));
    stream.fail(new Error('first'));
    stream.fail(new Error('second'));
    assert.deepEqual((await stream.next()).value, text('a', 0));
    await assert.rejects(stream.next(), /first/);
    assert.equal((await stream.next()).done, true);
  });

  test('a text that comes quickly is handed on in pieces, its beginning and its end at once', async () => {
    const stream = new EventStream(() => undefined, 3_600_000);
    const first = stream.next();
    stream.push(text('a', 0));
    assert.deepEqual((await first).value, text('a', 0));
    const second = stream.next();
    stream.push(text('b', 1));
    stream.push(text('c', 2));
    let early = true;
    void second.then(() => assert.ok(!early, 'before its time'));
    await new Promise(setImmediate);
    early = false;
    stream.end(end);
    assert.deepEqual((await second).value, { kind: 'text', text: 'bc', tokens: [{ id: 1 }, { id: 2 }] });
    assert.deepEqual((await stream.next()).value, end);
  });

  test('what is held back comes when it is time, without more behind it, to a reader that waits and to one that is late', async () => {
    const stream = new EventStream(() => undefined, 1);
    for (const [id, value] of ['a', 'b', 'c', 'd'].entries()) {
      const next = id % 2 === 0 ? stream.next() : undefined;
      stream.push(text(value, id));
      assert.deepEqual((await (next ?? stream.next())).value, text(value, id));
    }
    await stream.return();
  });

  test('leaving is told once, and never behind the end', async () => {
    let left = 0;
    const stream = new EventStream(() => left++, 0);
    stream.push(text('a', 0));
    for await (const _ of stream) break;
    await stream.return();
    stream.push(text('b', 1));
    assert.equal(left, 1);
    assert.equal((await stream.next()).done, true);
  });
});

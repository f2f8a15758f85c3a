/** What a client can do wrong below the messages: HTTP/2 streams that are not gRPC's, and bytes that are not HTTP/2's. */
import {
  type ClientHttp2Session,
  connect,
  constants,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
  type OutgoingHttpHeaders,
} from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { gzipSync } from 'node:zlib';
import { status } from '@grpc/grpc-js';
import { encodeInfer, modelInfer, modelStreamInfer, wellFormed } from './methods.js';
import type { Draw } from './random.js';
import type { Answer } from './wire.js';

export interface HostileConnection {
  readonly name: string;
  run(port: number, draw: Draw): Promise<Answer>;
}

/** A message of gRPC behind its prefix. */
function frame(message: Uint8Array, said = message.length, compressed = 0): Uint8Array {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt8(compressed, 0);
  prefix.writeUInt32BE(said >>> 0, 1);
  return Buffer.concat([prefix, message]);
}

interface Sent {
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: Uint8Array;
  /** What the client does after the body. */
  readonly then: 'end' | 'wait' | 'reset' | 'trailers' | 'disconnect';
  /** Milliseconds until a stream that waits is given up. */
  readonly waitMs?: number;
}

const grpcHeaders = { ':method': 'POST', ':path': modelInfer, 'content-type': 'application/grpc', te: 'trailers' };
/** An answer that has not come by then never will. */
const patienceMs = 120_000;

/** One stream on a connection of its own; the status, or how it ended. */
function stream(port: number, { headers = {}, body, then, waitMs = 100 }: Sent): Promise<Answer> {
  return new Promise((resolve) => {
    let session: ClientHttp2Session | undefined;
    let seen = '';
    let details = '';
    const timers: NodeJS.Timeout[] = [];
    const settle = (code: string): void => {
      timers.forEach(clearTimeout);
      session?.destroy();
      resolve({ code, details, messages: [] });
    };
    timers.push(setTimeout(() => settle('HANG'), patienceMs));
    try {
      session = connect(`http://127.0.0.1:${port}`);
      session.on('error', () => settle(seen || 'CLOSED'));
      const request = session.request({ ...grpcHeaders, ...headers }, { waitForTrailers: then === 'trailers' });
      const note = (fields: IncomingHttpHeaders & IncomingHttpStatusHeader): void => {
        const code = fields['grpc-status'];
        const http = fields[':status'] ?? 200;
        if (code !== undefined) {
          seen = status[Number(code)] ?? 'NO STATUS';
          details = decodeURI([fields['grpc-message'] ?? ''].flat().join(' '));
        } else if (http !== 200) seen = `HTTP ${http}`;
      };
      request.on('response', note);
      request.on('trailers', note);
      request.on('wantTrailers', () => request.sendTrailers({ 'grpc-status': '0', 'x-strange': 'yes' }));
      request.on('error', () => undefined);
      request.on('close', () => settle(seen || 'RESET'));
      request.resume();
      if (body) request.write(body);
      if (then === 'end' || then === 'trailers') request.end();
      else if (then === 'disconnect')
        timers.push(setTimeout(() => ((seen ||= 'LEFT'), session?.destroy(), settle(seen)), waitMs));
      else
        timers.push(
          setTimeout(() => ((seen ||= 'LEFT'), request.close(constants.NGHTTP2_CANCEL)), then === 'wait' ? waitMs : 0),
        );
    } catch {
      // Node's client itself refuses what no client may send.
      settle(seen || 'CLOSED');
    }
  });
}

/** Bytes on a bare connection; it counts as left when the server keeps it. */
function bytes(port: number, parts: readonly Uint8Array[], waitMs = 60): Promise<Answer> {
  return new Promise((resolve) => {
    const socket = connectTcp(port, '127.0.0.1');
    const settle = (code: string): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ code, details: '', messages: [] });
    };
    const timer = setTimeout(() => settle('LEFT'), waitMs);
    socket.on('error', () => settle('CLOSED'));
    socket.on('close', () => settle('CLOSED'));
    socket.resume();
    for (const part of parts) socket.write(part);
  });
}

const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

/** A frame of HTTP/2 (RFC 9113, section 4.1). */
function http2Frame(
  type: number,
  flags: number,
  streamId: number,
  payload: Uint8Array,
  said = payload.length,
): Uint8Array {
  const head = Buffer.alloc(9);
  head.writeUIntBE(said, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(streamId >>> 0, 5);
  return Buffer.concat([head, payload]);
}

const settings = http2Frame(4, 0, 0, Buffer.alloc(0));
const valid = encodeInfer(wellFormed());
const many = <T>(count: number, make: (at: number) => T): T[] => Array.from({ length: count }, (_, at) => make(at));
/** `:method: POST`, `:scheme: http`, `:path: /` from HPACK's static table. */
const hpack = Buffer.from([0x83, 0x86, 0x84]);

const streams: Readonly<Record<string, (draw: Draw) => Sent>> = {
  'a length beyond the message': (draw) => ({ body: frame(valid, valid.length + draw.integer(1, 1000)), then: 'end' }),
  'a length short of the message': (draw) => ({ body: frame(valid, draw.integer(0, valid.length - 1)), then: 'end' }),
  'a length of four gigabytes': () => ({ body: frame(valid, 0xffffffff), then: 'wait' }),
  'a prefix cut short': (draw) => ({ body: frame(valid).slice(0, draw.integer(0, 4)), then: 'end' }),
  'compressed without an encoding': () => ({ body: frame(valid, valid.length, 1), then: 'end' }),
  'a compressed flag that is none': (draw) => ({ body: frame(valid, valid.length, draw.integer(2, 255)), then: 'end' }),
  'gzip that is none': (draw) => ({
    headers: { 'grpc-encoding': 'gzip' },
    body: frame(draw.bytes(200), 200, 1),
    then: 'end',
  }),
  'gzip cut short': (draw) => {
    const packed = gzipSync(valid).subarray(0, draw.integer(1, 40));
    return { headers: { 'grpc-encoding': 'gzip' }, body: frame(packed, packed.length, 1), then: 'end' };
  },
  'deflate that is none': (draw) => ({
    headers: { 'grpc-encoding': 'deflate' },
    body: frame(draw.bytes(50), 50, 1),
    then: 'end',
  }),
  'a bomb of gzip': () => ({
    headers: { 'grpc-encoding': 'gzip' },
    body: frame(bomb(), bomb().length, 1),
    then: 'end',
  }),
  'an unknown encoding': () => ({
    headers: { 'grpc-encoding': 'brotli' },
    body: frame(valid, valid.length, 1),
    then: 'end',
  }),
  'no message': () => ({ then: 'end' }),
  'two messages in a unary call': () => ({ body: Buffer.concat([frame(valid), frame(valid)]), then: 'end' }),
  'a thousand empty messages': () => ({ body: Buffer.alloc(5000), then: 'end' }),
  'a thousand empty messages in a stream': () => ({
    headers: { ':path': modelStreamInfer },
    body: Buffer.alloc(5000),
    then: 'end',
  }),
  'another content-type': (draw) => ({
    headers: {
      'content-type': draw.pick(['application/json', 'text/html', '', 'application/grpcx', 'application/grpc+json']),
    },
    body: frame(valid),
    then: 'end',
  }),
  'another method': (draw) => ({ headers: { ':method': draw.pick(['GET', 'PUT', 'DELETE', 'X']) }, then: 'end' }),
  'another path': (draw) => ({
    headers: {
      ':path': draw.pick([
        '/',
        '//',
        '/x',
        '/inference.GRPCInferenceService/',
        '/a/b/c',
        `/${'x'.repeat(9000)}`,
        '/..%2f/%00',
        '*',
      ]),
    },
    body: frame(valid),
    then: 'end',
  }),
  'large headers': (draw) => ({
    headers: { 'x-large': 'y'.repeat(draw.pick([1000, 15_000, 60_000])) },
    body: frame(valid),
    then: 'end',
  }),
  'many headers': (draw) => ({
    headers: Object.fromEntries(many(draw.pick([50, 500, 1500]), (at) => [`x-${at}`, 'y'])),
    body: frame(valid),
    then: 'end',
  }),
  'a binary header that is no base64': () => ({
    headers: { 'x-bin': '\u00ff\u00fe!!!', 'grpc-trace-bin': '====' },
    body: frame(valid),
    then: 'end',
  }),
  'a timeout that is none': (draw) => ({
    headers: { 'grpc-timeout': draw.pick(['', 'x', '-1S', '99999999999H', '1', '0n', '1.5S', 'NaNm']) },
    body: frame(valid),
    then: 'end',
  }),
  'trailers of the client': () => ({ body: frame(valid), then: 'trailers' }),
  'an upload broken off': (draw) => ({
    body: frame(valid).slice(0, draw.integer(0, valid.length)),
    then: draw.pick(['reset', 'disconnect'] as const),
    waitMs: draw.integer(0, 30),
  }),
  'a stream left half open': (draw) => ({
    headers: { ':path': draw.pick([modelInfer, modelStreamInfer]) },
    ...(draw.chance(0.5) ? { body: frame(valid) } : {}),
    then: 'wait',
    waitMs: draw.integer(10, 300),
  }),
};

let packedZeros: Buffer | undefined;
/** A hundred megabytes of zeros. */
function bomb(): Buffer {
  return (packedZeros ??= gzipSync(Buffer.alloc(100 * 1024 * 1024), { level: 9 }));
}

const connections: Readonly<Record<string, (draw: Draw) => readonly Uint8Array[]>> = {
  'random bytes': (draw) => [draw.bytes(draw.integer(1, 2000))],
  'random bytes behind the preface': (draw) => [preface, draw.bytes(draw.integer(1, 2000))],
  'random frames': (draw) => [
    preface,
    settings,
    ...many(draw.integer(1, 20), () =>
      http2Frame(
        draw.integer(0, 12),
        draw.integer(0, 255),
        draw.pick([0, 1, 2, 3, 0x7fffffff]),
        draw.bytes(draw.integer(0, 40)),
      ),
    ),
  ],
  'HTTP/1.1': () => [Buffer.from('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabcd')],
  TLS: (draw) => [Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]), draw.bytes(500)],
  'settings of a wrong length': () => [preface, http2Frame(4, 0, 0, Buffer.alloc(5))],
  'headers on stream 0': () => [preface, settings, http2Frame(1, 5, 0, hpack)],
  'data on an idle stream': (draw) => [preface, settings, http2Frame(0, 1, 7, draw.bytes(100))],
  'a frame larger than allowed': () => [preface, settings, http2Frame(0, 0, 1, Buffer.alloc(64), 0xffffff)],
  'a window update of 0': () => [preface, settings, http2Frame(8, 0, 0, Buffer.alloc(4))],
  'a window beyond its limit': () => [
    preface,
    settings,
    ...many(3, () => http2Frame(8, 0, 0, Buffer.from([0x7f, 255, 255, 255]))),
  ],
  'a flood of pings': () => [preface, settings, ...many(2000, () => http2Frame(6, 0, 0, Buffer.alloc(8)))],
  'a flood of settings': () => [preface, ...many(2000, () => http2Frame(4, 0, 0, Buffer.from([0, 4, 0, 0, 0, 1])))],
  'a flood of resets': () => [
    preface,
    settings,
    ...many(500, (at) =>
      Buffer.concat([http2Frame(1, 4, 2 * at + 1, hpack), http2Frame(3, 0, 2 * at + 1, Buffer.from([0, 0, 0, 8]))]),
    ),
  ],
  'a flood of continuations': () => [
    preface,
    settings,
    http2Frame(1, 0, 1, hpack),
    ...many(500, () => http2Frame(9, 0, 1, Buffer.concat([Buffer.from([0x40, 1, 0x78, 1, 0x79])]))),
  ],
  'a header table that is none': (draw) => [
    preface,
    settings,
    http2Frame(1, 5, 1, Buffer.from([0xff, 0xff, 0xff, ...draw.bytes(20)])),
  ],
  'an empty data flood': () => [
    preface,
    settings,
    http2Frame(1, 4, 1, hpack),
    ...many(2000, () => http2Frame(0, 0, 1, Buffer.alloc(0))),
  ],
};

export const hostileConnections: readonly HostileConnection[] = [
  ...Object.entries(streams).map(([name, make]) => ({
    name,
    run: (port: number, draw: Draw) => stream(port, make(draw)),
  })),
  ...Object.entries(connections).map(([name, make]) => ({
    name,
    run: (port: number, draw: Draw) => bytes(port, make(draw)),
  })),
];

/** Entry of a thread that makes tokens of texts. */
import { parentPort } from 'node:worker_threads';
import { parseTokenizer, type Tokenizer } from '../../../libs/data/text/tokenizer.js';
import { HeartwoodError, internal, messageOf } from '../../../libs/errors/error.js';
import type { EncodingReply, EncodingRequest } from './encoding-thread.js';

const port = parentPort;
if (port === null) throw new Error('this file runs in a worker thread only');

let tokenizer: Tokenizer | undefined;
let cancelled = new Int32Array(new SharedArrayBuffer(4));

/** Throws CANCELLED once nobody wants the text any more. */
function unlessCancelled(ticket: number): () => void {
  return () => {
    if (Atomics.load(cancelled, 0) === ticket)
      throw new HeartwoodError('CANCELLED', 'the request was cancelled while its prompt was encoded');
  };
}

function answer(request: EncodingRequest): EncodingReply {
  if (request.kind === 'close') return { kind: 'done' };
  try {
    if (request.kind === 'open') {
      tokenizer = parseTokenizer(request.source, 'tokenizer.json');
      cancelled = new Int32Array(request.cancelled);
      return { kind: 'done' };
    }
    if (tokenizer === undefined) throw internal('the encoding worker has no tokenizer');
    const ids = tokenizer.encode(request.text, unlessCancelled(request.ticket));
    return { kind: 'tokens', ids: Int32Array.from(ids) };
  } catch (thrown) {
    const code = thrown instanceof HeartwoodError ? thrown.code : 'INTERNAL';
    return { kind: 'failed', code, message: messageOf(thrown) };
  }
}

port.on('message', (request: EncodingRequest) => {
  const reply = answer(request);
  port.postMessage(reply, reply.kind === 'tokens' ? [reply.ids.buffer as ArrayBuffer] : []);
  if (request.kind === 'close') port.close();
});

/** Entry of a thread that preprocesses encoded images: the arithmetic of a large image would hold the event loop up. */
import { parentPort } from 'node:worker_threads';
import { preprocessImage } from '../../../libs/data/preprocess.js';
import { HeartwoodError, messageOf } from '../../../libs/errors/error.js';
import type { ImageReply, ImageRequest } from './image-pool.js';

const port = parentPort;
if (port === null) throw new Error('this file runs in a worker thread only');

async function answer(request: ImageRequest): Promise<ImageReply> {
  if (request.kind === 'close') return { kind: 'done' };
  try {
    return { kind: 'pixels', pixels: await preprocessImage(request.bytes, request.preprocessing, request.name) };
  } catch (thrown) {
    const code = thrown instanceof HeartwoodError ? thrown.code : 'INTERNAL';
    return { kind: 'failed', code, message: messageOf(thrown) };
  }
}

port.on('message', (request: ImageRequest) => {
  void answer(request).then((reply) => {
    port.postMessage(reply, reply.kind === 'pixels' ? [reply.pixels.buffer as ArrayBuffer] : []);
    if (request.kind === 'close') port.close();
  });
});

/** Entry of the sampling thread: finds the meter, reads it at its rate, and posts what it came to. */
import { parentPort, workerData } from 'node:worker_threads';
import { Integrator } from './integrator.js';
import { findMeter } from './meters/index.js';
import type { SamplerMessage, SamplerRequest, SamplerSettings } from './sample.js';

const port = parentPort;
if (port === null) throw new Error('this file runs in a worker thread only');
const { choice, root, sampleHz, clockOffset } = workerData as SamplerSettings;
const post = (message: SamplerMessage): void => port.postMessage(message);

const found = await findMeter(choice, root);
if ('absent' in found) {
  post({ kind: 'absent', reasons: found.absent });
  port.close();
} else {
  const { name, source } = found;
  const { rails, total, problems } = source;
  post({ kind: 'opened', name, rails, total: total !== undefined, problems });
  const integrator = new Integrator(source, (message) => post({ kind: 'problem', message }));
  const sampling = source.start(sampleHz, (reading) =>
    post({ kind: 'sample', sample: integrator.add({ ...reading, time: reading.time - clockOffset }) }),
  );
  port.on('message', (request: SamplerRequest) => {
    if (request === 'read') return sampling.read?.();
    sampling.stop();
    port.close();
  });
}

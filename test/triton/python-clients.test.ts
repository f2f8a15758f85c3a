import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { ServerOptions } from '../../services/server/options.js';
import { liveServer, type LiveServer } from '../../services/server/testing/live-server.js';
import { textServer } from '../../services/server/testing/text-server.js';
import { contractProto } from './contract-proto.js';

const run = promisify(execFile);
const buf = fileURLToPath(new URL('../../../node_modules/.bin/buf', import.meta.url));
const script = (name: string) => fileURLToPath(new URL(`../../../test/triton/${name}`, import.meta.url));

/** The first Python that has these modules. */
async function pythonWith(modules: string): Promise<string | undefined> {
  for (const python of ['python3', '/usr/bin/python3']) {
    const found = await run(python, ['-c', `import ${modules}`]).then(
      () => true,
      () => false,
    );
    if (found) return python;
  }
  return undefined;
}

/** Runs a script against a server of its own; what it says on standard output. */
async function conforms(
  python: string,
  name: string,
  rest: readonly string[],
  open: (options: Partial<ServerOptions>) => Promise<LiveServer> = liveServer,
): Promise<string[]> {
  const live = await open({ loadControl: 'explicit', loadModels: ['*'] });
  try {
    const { stdout } = await run(python, [script(name), `127.0.0.1:${live.grpcPort}`, ...rest], { timeout: 300_000 });
    return stdout.trim().split('\n');
  } finally {
    await live.stop();
  }
}

const parts = ['metadata', 'inference', 'classification', 'stream', 'configuration and statistics', 'repository'];
const expected = parts.map((part) => `ok ${part}`);

const withTriton = await pythonWith('tritonclient.grpc');
test(
  'tritonclient.grpc: inference, streams, metadata, configuration, statistics, repository, classification',
  { skip: withTriton ? false : 'python3 has no tritonclient' },
  async () => assert.deepEqual(await conforms(withTriton!, 'tritonclient_client.py', []), expected),
);

const withGrpc = await pythonWith('grpc, google.protobuf');
test(
  'gRPC’s C core and Google’s protobuf, from Python: the same calls by the messages of the contract',
  { skip: withGrpc ? false : 'python3 has no grpc and protobuf' },
  async () =>
    withContract(async (file) => assert.deepEqual(await conforms(withGrpc!, 'grpcio_client.py', [file]), expected)),
);

test(
  'the same from Python, as clients of Triton’s LLM backends ask: texts once, in pieces, cancelled and refused',
  { skip: withGrpc ? false : 'python3 has no grpc and protobuf' },
  async () =>
    withContract(async (file) => {
      const textParts = ['metadata', 'once', 'stream', 'empty final response', 'errors', 'cancellation'];
      const said = await conforms(withGrpc!, 'grpcio_text_client.py', [file], textServer);
      assert.deepEqual(
        said,
        textParts.map((part) => `ok ${part}`),
      );
    }),
);

/** Hands `work` a file with the contract's descriptors. */
async function withContract(work: (file: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'heartwood-contract-'));
  try {
    await writeFile(join(folder, 'contract.proto'), contractProto());
    const file = join(folder, 'contract.binpb');
    await run(buf, ['build', folder, '-o', file]);
    await work(file);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Client } from 'nice-grpc';
import { type Checkpoint, openCheckpoint } from '../../../libs/models/checkpoint.js';
import { packAttention } from '../../../libs/models/packed-attention.js';
import type { RandomCausalShape } from '../../../libs/models/testing/random-causal.js';
import { checkpointWeights } from '../../../libs/models/weights.js';
import { servedGeneration } from '../../../libs/pruning/prompt/served-graph.js';
import { writeSmallTextModel } from '../../../libs/pruning/testing/small-text-model.js';
import { readTextFiles, writeTextArtefact } from '../../../libs/pruning/text/artefact.js';
import { textBaseline } from '../../../libs/pruning/text/baseline.js';
import type { Published, TextManifestDraft } from '../../../libs/store/publish.js';
import type { Repository } from '../../../libs/store/repository.js';
import { createLogger } from '../../../libs/telemetry/log.js';
import { createRegistry } from '../../../libs/telemetry/metrics.js';
import {
  type DeepPartial,
  type GenerateRequest,
  type GeneratedText,
  type GenerationEnd,
  ServingServiceDefinition,
} from '../../../proto/gen/heartwood/serving/v1/serving.js';
import { openChannel } from '../../grpc/channel.js';
import type { DroppingStages } from '../generation/testing/dropping-stages.js';
import type { ServerOptions } from '../options.js';
import { liveServer, type LiveServer, publishNets } from './live-server.js';

/** Room for texts that take a while. */
export const textContext = 1024;

/** What a version is beside its shape. */
export interface TextModelExtra {
  /** Stages that drop prompt tokens. */
  readonly dropping?: DroppingStages;
  /** What its manifest says otherwise. */
  readonly manifest?: Partial<TextManifestDraft>;
}

/** Publishes a small language model with random weights, a token a byte, as the next version of a model. */
export async function publishTextModel(
  repository: Repository,
  model: string,
  shape: Partial<RandomCausalShape> = {},
  generation: object = {},
  { dropping, manifest = {} }: TextModelExtra = {},
): Promise<Published> {
  const work = await mkdtemp(join(tmpdir(), 'heartwood-text-model-'));
  try {
    const folder = await writeSmallTextModel(join(work, 'checkpoint'), { context: textContext, ...shape }, generation);
    const checkpoint = await openCheckpoint(folder);
    const dense = await textBaseline.prepare(checkpoint, work);
    return await repository.publish(model, async (directory) => {
      const draft = (await dense(directory)) as TextManifestDraft;
      const staged = dropping ? await writeStaged(checkpoint, work, directory, draft, dropping) : {};
      return { ...draft, ...staged, ...manifest };
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** The same model with stages, over what was written without them. Gives what the manifest says of them. */
async function writeStaged(
  checkpoint: Checkpoint,
  work: string,
  directory: string,
  { flops, text }: TextManifestDraft,
  { stages, table }: DroppingStages,
): Promise<Partial<TextManifestDraft>> {
  const packed = await packAttention(checkpoint, work);
  const { network } = servedGeneration(checkpoint, () => checkpointWeights(checkpoint, packed), stages, table);
  await writeTextArtefact(directory, network, await readTextFiles(checkpoint, network.spec));
  const segments = [...flops.segments, ...stages.map(() => ({ constant: 0, linear: 0, quadratic: 0 }))];
  return {
    text: { ...text, stages: stages.map(({ block }) => block) },
    flops: { ...flops, segments },
    budget: { default: 0, ceiling: Math.max(...table.rows.map(({ kl }) => kl)) },
  };
}

export interface TextServer extends LiveServer {
  readonly serving: Client<ServingServiceDefinition>;
  /** Continues a text to its end. */
  generate(request: DeepPartial<GenerateRequest>, signal?: AbortSignal): Promise<Generated>;
}

export interface Generated {
  readonly text: string;
  readonly ids: readonly number[];
  readonly pieces: readonly GeneratedText[];
  readonly end: GenerationEnd;
}

/** A live server with the classifier `net` and the language model `lm`, whose second version has fewer heads and neurons, and other weights. */
export async function textServer(options: Partial<ServerOptions> = {}): Promise<TextServer> {
  const fill = async (repository: Repository): Promise<void> => {
    await publishNets(repository);
    await publishTextModel(repository, 'lm');
    const blocks = [
      { heads: 1, neurons: 40 },
      { heads: 2, neurons: 9 },
    ];
    await publishTextModel(repository, 'lm', { seed: 2, blocks });
  };
  const live = await liveServer(options, {}, createLogger('test', 'silent'), createRegistry(), fill);
  const { channel, clients } = openChannel(live.address);
  const serving = clients.create(ServingServiceDefinition, channel);
  return {
    ...live,
    serving,
    generate: (request, signal) => generated(serving, request, signal),
    stop: async () => {
      channel.close();
      await live.stop();
    },
  };
}

async function generated(
  serving: Client<ServingServiceDefinition>,
  request: DeepPartial<GenerateRequest>,
  signal?: AbortSignal,
): Promise<Generated> {
  const pieces: GeneratedText[] = [];
  let end: GenerationEnd | undefined;
  for await (const response of serving.generate({ model: 'lm', ...request }, signal ? { signal } : {})) {
    if (end) throw new Error('an answer behind the end');
    if (response.text) pieces.push(response.text);
    end = response.end;
  }
  if (!end) throw new Error('a text without an end');
  const ids = pieces.flatMap(({ tokens }) => tokens.map(({ id }) => id));
  return { text: pieces.map(({ text }) => text).join(''), ids, pieces, end };
}

import { causalSpecOf } from '../../models/causal-lm.js';
import type { Checkpoint } from '../../models/checkpoint.js';
import { buildGenerationGraph, type GenerationNetwork } from '../../models/generation-graph.js';
import { packAttention } from '../../models/packed-attention.js';
import { checkpointWeights } from '../../models/weights.js';
import type { TextManifestDraft } from '../../store/publish.js';
import type { BaselineTask } from '../baseline.js';
import { costWindow, textCost } from './cost.js';
import { readTextFiles, textPartOf, writeTextArtefact } from './artefact.js';

/** The unpruned language model as it is served: its generation graph, its tokenizer, its generation_config.json. */
export const textBaseline: BaselineTask = {
  check: async (checkpoint) => void (await readTextFiles(checkpoint, causalSpecOf(checkpoint))),
  async prepare(checkpoint, workDirectory) {
    const files = await readTextFiles(checkpoint, causalSpecOf(checkpoint));
    const packed = await packAttention(checkpoint, workDirectory);
    const network = () => buildGenerationGraph(checkpoint, { weights: () => checkpointWeights(checkpoint, packed) });
    return async (folder) => {
      const written = network();
      await writeTextArtefact(folder, written, files);
      return draftOf(checkpoint, written, textPartOf(written, files));
    };
  },
};

function draftOf(
  checkpoint: Checkpoint,
  { spec }: GenerationNetwork,
  text: TextManifestDraft['text'],
): TextManifestDraft {
  const { flops } = textCost(spec);
  return {
    task: 'text-generation',
    parent: null,
    architecture: checkpoint.architecture,
    checkpointDigest: checkpoint.digest,
    dataDigest: null,
    method: null,
    plan: null,
    text,
    flops: { dense: flops, mean: flops, segments: [{ constant: flops * costWindow(spec), linear: 0, quadratic: 0 }] },
    budget: null,
    deltaLoss: null,
    accuracy: null,
    perplexity: null,
  };
}

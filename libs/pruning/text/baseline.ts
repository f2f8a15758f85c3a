import { causalSpecOf } from '../../models/causal-lm.js';
import type { Checkpoint } from '../../models/checkpoint.js';
import { buildGenerationGraph, type GenerationNetwork, generationSymbols } from '../../models/generation-graph.js';
import { packAttention } from '../../models/packed-attention.js';
import { checkpointWeights } from '../../models/weights.js';
import { countFlops } from '../../onnx/flops.js';
import type { TextManifestDraft } from '../../store/publish.js';
import type { BaselineTask } from '../baseline.js';
import { readTextFiles, textPartOf, writeTextArtefact } from './artefact.js';

/** Tokens of the window over which a token's FLOPs are a mean, where the context has as many. */
const windowTokens = 256;

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

function draftOf(checkpoint: Checkpoint, network: GenerationNetwork, text: TextManifestDraft['text']): TextManifestDraft {
  const window = Math.min(network.spec.context, windowTokens);
  const flops = tokenFlops(network, window);
  return {
    task: 'text-generation',
    parent: null,
    architecture: checkpoint.architecture,
    checkpointDigest: checkpoint.digest,
    dataDigest: null,
    method: null,
    plan: null,
    text,
    flops: { dense: flops, mean: flops, segments: [{ constant: flops * window, linear: 0, quadratic: 0 }] },
    budget: null,
    deltaLoss: null,
    accuracy: null,
    perplexity: null,
  };
}

/** FLOPs of a token of a window: on average it sees half of the window, and itself. */
function tokenFlops({ g, outputs }: GenerationNetwork, window: number): number {
  const { batch, length, wanted, capacity } = generationSymbols;
  const values = { [batch]: 1, [length]: 1, [wanted]: 1, [capacity]: (window + 1) / 2 };
  return countFlops(g.build(outputs), values).total;
}

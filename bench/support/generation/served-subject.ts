import { textPartOf, writeTextArtefact, readTextFiles } from '../../../libs/pruning/text/artefact.js';
import { costWindow, textCost } from '../../../libs/pruning/text/cost.js';
import { uniformBits } from '../../../libs/models/quantisation/network.js';
import { openRepository } from '../../../libs/store/repository.js';
import type { TextManifestDraft } from '../../../libs/store/publish.js';
import type { Subject } from './subject.js';

/** Publishes a subject as it is (nothing was measured of random weights) and gives its version. */
export async function publishSubject(repository: string, name: string, subject: Subject): Promise<number> {
  const { checkpoint, spec, bits, network } = subject;
  const files = await readTextFiles(checkpoint, spec);
  const choice = bits === 32 ? undefined : Object.fromEntries(uniformBits(spec, bits));
  const { flops } = textCost(spec, choice ?? {});
  const store = await openRepository(repository, { create: true });
  const fill = async (folder: string): Promise<TextManifestDraft> => {
    await writeTextArtefact(folder, network, files);
    return {
      task: 'text-generation',
      parent: null,
      architecture: checkpoint.architecture,
      checkpointDigest: checkpoint.digest,
      dataDigest: null,
      method: null,
      plan: null,
      text: textPartOf(network, files, { bits: choice }),
      flops: { dense: flops, mean: flops, segments: [{ constant: flops * costWindow(spec), linear: 0, quadratic: 0 }] },
      budget: null,
      deltaLoss: null,
      accuracy: null,
      perplexity: null,
    };
  };
  return (await store.publish(name, fill)).version;
}

/** A checkpoint of a language model as its files are, assessed through the canonical graph. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TokenDocument } from '../../data/text/dataset.js';
import { buildCausalLm } from '../../models/causal-lm.js';
import { asFloat32, openCheckpoint } from '../../models/checkpoint.js';
import { writeModel } from '../../onnx/write.js';
import { createRuntime } from '../../runtime/runtime.js';
import { assessDocuments, assessedBatch } from '../assess-text.js';
import type { Assessment } from '../job.js';

/** Assesses the checkpoint of a folder on whole documents; the mark of the end of a text is token 0. */
export async function assessCheckpoint(directory: string, documents: readonly TokenDocument[]): Promise<Assessment> {
  const work = await mkdtemp(join(tmpdir(), 'heartwood-assess-'));
  const runtime = createRuntime({ threads: 1 });
  try {
    const checkpoint = await asFloat32(await openCheckpoint(directory), work);
    const context = Number(checkpoint.config['max_position_embeddings']);
    const lm = buildCausalLm(checkpoint, { lowering: 'canonical', positions: context, batch: assessedBatch });
    const path = join(work, 'model.onnx');
    await writeModel(lm.g.build([lm.g.named('logits', lm.logits)]), path);
    const session = await runtime.load(path);
    return await assessDocuments(
      async (windows) => (await session.run({ input_ids: windows }))['logits']!.data as Float32Array,
      lm.spec,
      documents,
      0,
    );
  } finally {
    await runtime.close();
    await rm(work, { recursive: true, force: true });
  }
}

// A publisher for tests to run as a process of its own: `node publisher.js REPOSITORY MODEL COUNT TAG`.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openRepository } from '../repository.js';
import { sampleDraft } from './versions.js';

const [directory = '', model = '', count = '0', tag = ''] = process.argv.slice(2);
const repository = await openRepository(directory, { create: true });
for (let index = 0; index < Number(count); index++) {
  const { version } = await repository.publish(model, async (staging) => {
    // Several files of some size, so that a kill falls into every part of publishing.
    for (let part = 0; part < 4; part++)
      await writeFile(join(staging, `part-${part}.data`), Buffer.alloc(1 << 16, part));
    await writeFile(join(staging, 'model.onnx'), `${tag} ${index}`);
    // What config.pbtxt has to say changes with the second.
    const budget = index > 0 ? { default: 0.1, ceiling: 1 } : null;
    return sampleDraft({ publication: `${tag}-${index}`, budget });
  });
  process.stdout.write(`${version}\n`);
}

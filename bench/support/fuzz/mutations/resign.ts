import { createHash } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { manifestFile } from './mutation.js';

/** Makes the manifest tell the digests of the files as they are now. */
export async function resign(directory: string): Promise<void> {
  const file = join(directory, manifestFile);
  const content = JSON.parse(await readFile(file, 'utf8')) as { files: Record<string, string> };
  for (const name of Object.keys(content.files)) {
    const bytes = await readFile(join(directory, name)).catch(() => undefined);
    if (bytes) content.files[name] = createHash('sha256').update(bytes).digest('hex');
  }
  await rm(file);
  await writeFile(file, JSON.stringify(content));
}

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openRepository, type Repository } from '../../../libs/store/repository.js';

/** An empty repository in a folder of its own, and how to take it away again. */
export async function temporaryRepository(): Promise<{ repository: Repository; remove: () => Promise<void> }> {
  const directory = await mkdtemp(join(tmpdir(), 'heartwood-server-'));
  const repository = await openRepository(join(directory, 'models'), { create: true });
  return { repository, remove: () => rm(directory, { recursive: true, force: true }) };
}

// npm run image [-- TAG]: builds the image from the Dockerfile (the bases first where no registry has them) and says how large it is.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeBaseImages } from './base-images.mjs';
import { ask, run } from './shell.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));

/**
 * Builds the image under a name. @param say told what is being done
 * @returns its size in bytes
 */
export function buildImage(name, say) {
  makeBaseImages(say);
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const facts = {
    VERSION: version,
    REVISION: ask('git', ['-C', root, 'rev-parse', 'HEAD']) ?? 'unknown',
    CREATED: new Date().toISOString().replace(/\.\d+/, ''),
    // As this machine's npm is told where packages are.
    NPM_REGISTRY: ask('npm', ['config', 'get', 'registry', '--prefix', root]) ?? 'https://registry.npmjs.org/',
  };
  const values = Object.entries(facts).flatMap(([key, value]) => ['--build-arg', `${key}=${value}`]);
  say(`${name}: from the Dockerfile`);
  // The network of the host, so that names and proxies are found as they are found here.
  run('docker', ['build', '--network', 'host', '--tag', name, ...values, root]);
  return Number(ask('docker', ['image', 'inspect', '--format', '{{.Size}}', name]));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const name = process.argv[2] ?? 'heartwood:latest';
  const bytes = buildImage(name, (line) => console.error(line));
  console.log(`${name}: ${(bytes / 1e6).toFixed(0)} MB`);
}

// npm run bench:NAME -- [--json FILE] …: builds, then runs dist/bench/NAME.js with the arguments that follow.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { prepare, root } from './prepare.mjs';

const [name = '', ...options] = process.argv.slice(2);
prepare();
const script = join(root, 'dist/bench', `${name}.js`);
if (!/^[a-z-]+$/.test(name) || !existsSync(script)) {
  console.error(`no benchmark is called '${name}', see the bench: scripts of package.json`);
  process.exit(2);
}
// As the services are started: the environment is read before a process begins.
const { withHugePages } = await import('../dist/libs/runtime/huge-pages.js');
const env = withHugePages(process.env);
const { status } = spawnSync(process.execPath, ['--expose-gc', script, ...options], { stdio: 'inherit', env });
process.exit(status ?? 1);

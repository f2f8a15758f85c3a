#!/usr/bin/env node
// The command line. From a checkout it first installs and builds what is missing; an image has what was built, and no scripts.
import { existsSync } from 'node:fs';

const scripts = new URL('../scripts/prepare.mjs', import.meta.url);
if (existsSync(scripts)) (await import(scripts)).prepare();
await import('../dist/services/cli/main.js');

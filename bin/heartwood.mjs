#!/usr/bin/env node
// The command line from a checkout: installs and builds what is missing, then hands over.
import { prepare } from '../scripts/prepare.mjs';

prepare();
await import('../dist/services/cli/main.js');

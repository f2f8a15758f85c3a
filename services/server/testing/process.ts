/** Entry of a server process for tests: the options come as JSON in the first argument. */
import type { ServerOptions } from '../options.js';
import { serveUntilSignal } from '../server.js';

await serveUntilSignal(JSON.parse(process.argv[2] ?? '{}') as ServerOptions);

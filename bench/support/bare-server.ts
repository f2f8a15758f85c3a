/** Entry of a process with a bare gRPC server: prints its port. Ends with its parent. */
import { startBareServer } from './raw-client.js';

console.log(await startBareServer());
process.stdin.resume().on('end', () => process.exit(0));

// node check-binding.mjs PROVIDER…: whether the installed ONNX Runtime loads here and has these execution providers compiled in.
import { createRequire } from 'node:module';

const { listSupportedBackends } = createRequire(import.meta.url)('onnxruntime-node');
const there = listSupportedBackends().map(({ name }) => name);
const missing = process.argv.slice(2).filter((name) => !there.includes(name));
if (missing.length > 0) {
  console.error(`ONNX Runtime: expected the providers ${missing.join(', ')}, it has ${there.join(', ')}`);
  process.exit(1);
}
console.log(`ONNX Runtime with ${there.join(', ')}`);

import { hasBlockedConvolutions } from '../onnx/blocked-products.js';
import { MODEL_FILE } from './publish.js';

/**
 * The model file for processors on which the runtime has convolutions over blocks of channels; a version of a language model that has weights in
 * float32 has it beside model.onnx, over the same weights.
 */
export const BLOCKED_MODEL_FILE = 'model.blocked.onnx';

/** The file of a version that is run. @param files those of its manifest */
export function servedModelFile(files: Readonly<Record<string, unknown>>, processor?: string): string {
  return hasBlockedConvolutions(processor) && Object.hasOwn(files, BLOCKED_MODEL_FILE)
    ? BLOCKED_MODEL_FILE
    : MODEL_FILE;
}

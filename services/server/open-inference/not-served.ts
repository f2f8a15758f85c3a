import { HeartwoodError } from '../../../libs/errors/error.js';
import type { GRPCInferenceServiceImplementation } from '../../../proto/gen/open_inference_grpc.js';

const sharedMemory = refusal('shared memory is not supported, expected tensors in the messages');

function refusal(reason: string) {
  return () => Promise.reject(new HeartwoodError('UNIMPLEMENTED', reason));
}

/** The calls of Triton's clients that this server does not serve, and does not advertise. */
export const notServed = {
  systemSharedMemoryStatus: sharedMemory,
  systemSharedMemoryRegister: sharedMemory,
  systemSharedMemoryUnregister: sharedMemory,
  cudaSharedMemoryStatus: sharedMemory,
  cudaSharedMemoryRegister: sharedMemory,
  cudaSharedMemoryUnregister: sharedMemory,
  traceSetting: refusal('tracing is not supported'),
  logSettings: refusal('log settings are not supported, the level is the option log-level of the server'),
} satisfies Partial<GRPCInferenceServiceImplementation>;

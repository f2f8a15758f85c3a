import type { CallSite } from './call-layer.js';

/** What grpc-js puts a call's messages together with; message-parts.test.ts notices when it is made otherwise. */
interface Decoder {
  /** 0 between two messages. */
  readonly readState: number;
  readPartialMessage: readonly Buffer[];
  readCompressFlag: Buffer;
}

const nothing = Buffer.alloc(0);

/**
 * Lets go of the parts of a message that has arrived in whole, of which grpc-js has made a copy. It keeps them until the call is collected,
 * and calls live long enough to be collected with the old objects alone: until the next marking of the whole heap a server holds every
 * byte that it has read, some tens of MiB, between which malloc finds no room for what comes next.
 */
export function forgetParts({ base }: Pick<CallSite, 'base'>): void {
  const { decoder } = base as unknown as { decoder?: Decoder };
  if (decoder?.readState !== 0) return;
  decoder.readPartialMessage = [];
  decoder.readCompressFlag = nothing;
}
